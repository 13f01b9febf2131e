"""A consumer as a process: handles what it is given by lines on its input, and says what it has acknowledged."""

from __future__ import annotations

import sys

import psycopg

from migrator.messaging.inbox import Inbox, Message


def inbox_of(url: str) -> Inbox:
    return Inbox(lambda: psycopg.connect(url), "public", "points", tries=3)


def give(session: psycopg.Connection, message: Message) -> None:
    """A point for each message: twice is too often."""
    session.execute("INSERT INTO given (message, account) VALUES (%s, %s)", (message.id, message.key))


def main(url: str) -> None:
    inbox = inbox_of(url)
    for line in sys.stdin:
        message_id, key = line.split()
        print(message_id, inbox.handle(Message(message_id, "orders", key), give), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
