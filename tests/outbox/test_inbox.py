"""The inbox: each message once, whoever delivers it how often, and what cannot be handled stops only its own key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from contexts.databases import Database, Databases
from contexts.errors import RefusedError
from migrator.messaging.consuming import message_of_sqs, settle
from migrator.messaging.inbox import Handled, Inbox, Message
from migrator.messaging.outbox import Outbox, statements
from tests.migrator.moving import ROOT
from tests.outbox.consumer import give, inbox_of

GIVEN = "CREATE TABLE public.given (message text, account text)"
Begin = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def database(module_pair: Databases) -> Database:
    with module_pair.service.connect("test") as conn:
        conn.execute(GIVEN)
        for name in ("inbox", "outbox"):
            conn.execute(statements("public")[name].encode())
    return module_pair.service


@pytest.fixture(autouse=True)
def empty(database: Database) -> None:
    with database.connect("test") as conn:
        conn.execute("TRUNCATE public.given, public.inbox_message, public.outbox")


@pytest.fixture(params=["psycopg", "connection", "session"])
def begin(request: pytest.FixtureRequest, database: Database) -> Iterator[Begin]:
    """Sessions of each kind that an application may have."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database.url))
    kinds: dict[str, Begin] = {
        "psycopg": lambda: psycopg.connect(database.url),
        "connection": engine.begin,
        "session": sessionmaker(engine).begin,
    }
    yield kinds[request.param]
    engine.dispose()


def given(database: Database) -> list[str]:
    with database.connect("test") as conn:
        return [message for (message,) in conn.execute("SELECT message FROM public.given ORDER BY ctid")]


def insert(session: Any, message: Message) -> None:
    statement = f"INSERT INTO public.given VALUES ('{message.id}', '{message.key}')"
    session.execute(statement if isinstance(session, psycopg.Connection) else text(statement))


class Refusing:
    """A handler that does its work and fails for some messages all the same."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.calls: list[str] = []

    def __call__(self, session: Any, message: Message) -> None:
        self.calls.append(message.id)
        insert(session, message)
        if message.id in self.refused:
            raise ValueError(f"no sense in {message.id}")


def message(name: str, key: str | None = "k") -> Message:
    return Message(name, "orders", key, b'{"n": 1}', {"id": name, "eventType": "made"})


def test_a_message_is_handled_once(database: Database, begin: Begin) -> None:
    inbox = Inbox(begin, "public", "points")
    assert [inbox.handle(message("a"), insert) for _ in range(3)] == [
        Handled.HANDLED,
        Handled.DUPLICATE,
        Handled.DUPLICATE,
    ]
    other = Inbox(begin, "public", "mail")
    assert other.handle(message("a"), insert) is Handled.HANDLED
    assert given(database) == ["a", "a"]


def test_what_fails_leaves_nothing_and_is_parked_with_what_follows_it(database: Database, begin: Begin) -> None:
    inbox, handler = Inbox(begin, "public", "points", tries=3), Refusing("bad")
    assert [inbox.handle(message("bad"), handler) for _ in range(4)] == [
        Handled.FAILED,
        Handled.FAILED,
        Handled.PARKED,
        Handled.PARKED,
    ]
    assert handler.calls == ["bad"] * 3
    assert inbox.handle(message("behind"), handler) is Handled.PARKED
    assert inbox.handle(message("other", "l"), handler) is Handled.HANDLED
    assert inbox.handle(message("keyless", None), handler) is Handled.HANDLED
    first, second = inbox.parked()
    assert (first.message, first.tries, first.reason) == (message("bad"), 3, "ValueError: no sense in bad")
    assert (second.message, second.reason) == (message("behind"), "waits behind bad")
    assert given(database) == ["other", "keyless"]

    assert inbox.retry(handler) == {"bad": Handled.PARKED, "behind": Handled.PARKED}
    handler.refused.clear()
    assert inbox.retry(handler) == {"bad": Handled.HANDLED, "behind": Handled.HANDLED}
    assert given(database) == ["other", "keyless", "bad", "behind"]
    assert inbox.handle(message("bad"), handler) is Handled.DUPLICATE
    assert inbox.parked() == []


def test_a_message_can_be_given_up(database: Database, begin: Begin) -> None:
    inbox, handler = Inbox(begin, "public", "points", tries=1), Refusing("bad")
    assert [inbox.handle(message(name), handler) for name in ("bad", "behind")] == [Handled.PARKED] * 2
    inbox.skip("bad", "a test message")
    assert inbox.retry(handler) == {"behind": Handled.HANDLED}
    assert inbox.handle(message("bad"), handler) is Handled.DUPLICATE
    with pytest.raises(RefusedError, match="no message 'bad' is parked"):
        inbox.skip("bad", "again")
    assert given(database) == ["behind"]


def test_consumers_at_once_handle_a_message_once(database: Database) -> None:
    at_work, go_on, found = threading.Event(), threading.Event(), list[Handled]()

    def slowly(session: Any, message: Message) -> None:
        insert(session, message)
        at_work.set()
        go_on.wait()

    first = threading.Thread(target=lambda: found.append(inbox_of(database.url).handle(message("a"), slowly)))
    first.start()
    at_work.wait()
    second = threading.Thread(target=lambda: found.append(inbox_of(database.url).handle(message("a"), give)))
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert sorted(found) == [Handled.DUPLICATE, Handled.HANDLED]
    assert given(database) == ["a"]


@pytest.mark.parametrize("point", ["inbox.handled", "inbox.committed"])
def test_a_consumer_that_dies_is_given_everything_again(database: Database, point: str) -> None:
    lines = "".join(f"m{n} key{n % 2}\n" for n in range(6))

    def consume(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.outbox.consumer", database.url], input=lines, cwd=ROOT, text=True,
            capture_output=True, check=False, timeout=60, env={**os.environ, **environment},
        )  # fmt: skip

    died = consume(CARVEOUT_KILL_AT=f"{point}:3")
    assert (died.returncode, died.stdout.split()) == (-signal.SIGKILL, ["m0", "handled", "m1", "handled"])
    # Of the one at which it died the sender knows nothing; it delivers from the beginning, as a queue may.
    again = consume()
    assert again.stdout.split()[5] == ("handled" if point == "inbox.handled" else "duplicate")
    assert given(database) == [f"m{n}" for n in range(6)]


def test_a_deadlock_says_nothing_against_a_message(database: Database) -> None:
    inbox, raised = inbox_of(database.url), [psycopg.errors.DeadlockDetected()] * 10

    def unlucky(session: Any, message: Message) -> None:
        if raised:
            raise raised.pop()
        insert(session, message)

    # It was the server that raised it, which is where the class of the error comes from.
    assert psycopg.errors.DeadlockDetected().sqlstate == "40P01"
    assert settle(inbox, message("a"), unlucky, _Hasty())
    assert given(database) == ["a"]


class _Hasty(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        return False


def test_a_database_that_is_away_is_no_fault_of_the_message(database: Database) -> None:
    def away(session: Any, message: Message) -> None:
        raise psycopg.errors.AdminShutdown

    with pytest.raises(psycopg.OperationalError):
        inbox_of(database.url).handle(message("a"), away)
    assert inbox_of(database.url).parked() == []
    assert inbox_of(database.url).handle(message("a"), insert) is Handled.HANDLED


def test_notes_are_forgotten_and_parked_messages_are_not(database: Database) -> None:
    inbox = inbox_of(database.url)
    inbox.handle(message("a"), insert)
    for _ in range(3):
        inbox.handle(message("bad", "l"), Refusing("bad"))
    inbox.forget(3600)
    assert inbox.handle(message("a"), insert) is Handled.DUPLICATE
    inbox.forget(0)
    assert inbox.handle(message("a"), insert) is Handled.HANDLED
    assert [one.message.id for one in inbox.parked()] == ["bad"]


def test_a_message_is_sent_with_the_rows_it_tells_of(database: Database, begin: Begin) -> None:
    outbox = Outbox("public")
    with begin() as session:
        name = outbox.send(session, "order", 7, "made", {"total": "9.90"})
    with begin() as session:
        outbox.send(session, "order", 8, "made", None)
        session.rollback()
    with database.connect("test") as conn:
        rows = conn.execute("SELECT id, aggregatetype, aggregateid, type, payload FROM public.outbox").fetchall()
    assert rows == [(name, "order", "7", "made", {"total": "9.90"})]
    with begin() as session:
        outbox.clean(session, 3600)
        outbox.clean(session, 0)
    with database.connect("test") as conn:
        assert conn.execute("SELECT FROM public.outbox").fetchall() == []


def test_a_message_of_a_queue_is_read() -> None:
    attributes = {
        name: {"StringValue": value} for name, value in (("id", "7"), ("key", "k"), ("contentEncoding", "base64"))
    }
    found = message_of_sqs(
        {"Body": "AP8=", "MessageId": "m", "MessageAttributes": attributes}, "http://x/1/orders.fifo"
    )
    assert found == Message("7", "orders.fifo", "k", b"\x00\xff", {"id": "7"})
