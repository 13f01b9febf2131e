"""The receiver's side: a message is handled in the transaction that notes it, so it is handled exactly once.

However often it is delivered: a crash before the commit leaves nothing of it, a crash after it leaves the note. What
cannot be handled is parked after some tries, and what follows it under its key with it, until somebody decides.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from contexts.errors import RefusedError
from contexts.killpoints import kill_point
from migrator.messaging.outbox import statements
from migrator.messaging.sessions import execute_of

_log = logging.getLogger(__name__)
#: Errors that say nothing against the message: deadlocks, serialization failures, locks that were not given.
_PASSING = ("40", "55")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, wherever it came from."""

    id: str
    topic: str
    key: str | None
    payload: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of event, as the outbox row said it."""
        return self.headers.get("eventType", "")

    def json(self) -> Any:
        """The payload as a JSON value; None where there is none."""
        return None if self.payload is None else json.loads(self.payload)


class Handled(enum.StrEnum):
    """What became of a delivery. Only after ``FAILED`` it must be delivered again."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that somebody must decide about."""

    message: Message
    tries: int
    #: The handler's error, or the message behind which it waits.
    reason: str
    since: dt.datetime


#: Does the work of a message in the open transaction of its session.
Handler = Callable[[Any, Message], object]


class Inbox:
    """The inbox of one consumer.

    :param begin: opens a session whose block is one transaction: ``sessionmaker(engine).begin``, ``engine.begin``, or
        ``lambda: psycopg.connect(url)``.
    :param schema: where the service keeps ``inbox_message``.
    :param consumer: several consumers of a service may handle the same message, each once.
    :param tries: after so many a message is parked. A handler that takes the whole process down is not counted.
    """

    def __init__(
        self, begin: Callable[[], AbstractContextManager[Any]], schema: str, consumer: str, *, tries: int = 5
    ) -> None:
        self._begin = begin
        self._sql = statements(schema)
        self._consumer = consumer
        self._tries = tries

    def handle(self, message: Message, handler: Handler) -> Handled:
        """Handle a delivery; whatever the handler raises is noted, and nothing of its work remains.

        :raises psycopg.OperationalError: (or SQLAlchemy's) the database is away; deliver it again later.
        """
        return self._handle(message, handler, ["failed"])

    def parked(self) -> list[Parked]:
        """What waits for a decision, in the order of its arrival."""
        with self._begin() as session:
            rows = execute_of(session)(self._sql["parked"], (self._consumer,))
        return [
            Parked(Message(name, topic, key, _as_bytes(payload), headers or {}), tries, reason, since)
            for name, topic, key, headers, payload, tries, reason, since in rows
        ]

    def retry(self, handler: Handler, message_id: str | None = None) -> dict[str, Handled]:
        """Handle what is parked, or one of it, in order; what follows a message that fails again stays parked."""
        waiting = [one.message for one in self.parked() if message_id in (None, one.message.id)]
        return {message.id: self._handle(message, handler, ["failed", "parked"]) for message in waiting}

    def skip(self, message_id: str, reason: str) -> None:
        """Give a message up: it is never handled. What waits behind it is handled by :meth:`retry`.

        :raises RefusedError: no such message is parked.
        """
        with self._begin() as session:
            found = execute_of(session)(self._sql["skip"], (reason, self._consumer, message_id))
        if not found:
            raise RefusedError(f"no message {message_id!r} is parked", unchanged="nothing was changed")

    def forget(self, older_than_s: float) -> None:
        """Delete the notes of what was handled that long ago: longer than anything can be delivered again."""
        with self._begin() as session:
            execute_of(session)(self._sql["forget"], (self._consumer, older_than_s))

    def _handle(self, message: Message, handler: Handler, takes: Sequence[str]) -> Handled:
        try:
            with self._begin() as session:
                if (known := self._take(session, message, takes)) is not None:
                    return known
                handler(session, message)
                kill_point("inbox.handled")
            kill_point("inbox.committed")
        except Exception as error:  # whatever it is, the message must not stop those of other keys
            return self._failed(message, error)
        return Handled.HANDLED

    def _take(self, session: Any, message: Message, takes: Sequence[str]) -> Handled | None:
        """Note the message as handled; what is already known of it, or None where it is now to be handled."""
        execute, me = execute_of(session), (self._consumer, message.id)
        line = (self._consumer, message.topic, message.key, message.id, *me)
        if before := execute(self._sql["parked_before"], line):
            return self._park(session, message, f"waits behind {before[0][0]}", at_once=True)
        if execute(self._sql["take"], (*me, list(takes))):
            return None
        state = execute(self._sql["state"], me)[0][0]
        return Handled.PARKED if state == "parked" else Handled.DUPLICATE

    def _failed(self, message: Message, error: Exception) -> Handled:
        cause = getattr(error, "orig", error)
        if isinstance(cause, psycopg.OperationalError):
            if (cause.sqlstate or "").startswith(_PASSING):
                return Handled.FAILED
            raise error
        _log.warning("message %s of %s: %s", message.id, message.topic, type(error).__name__)
        with self._begin() as session:
            return self._park(session, message, f"{type(error).__name__}: {error}", at_once=self._tries <= 1)

    def _park(self, session: Any, message: Message, reason: str, *, at_once: bool) -> Handled:
        """Note a failure, or a message that must wait; what it is now."""
        found = execute_of(session)(
            self._sql["fail"],
            (
                self._consumer, message.id, at_once, reason, message.topic, message.key, Jsonb(dict(message.headers)),
                message.payload, self._tries,
            ),
        )  # fmt: skip
        if not found:  # somebody else has handled it meanwhile
            return Handled.DUPLICATE
        return Handled.PARKED if found[0][0] == "parked" else Handled.FAILED


def _as_bytes(payload: Any) -> bytes | None:
    return None if payload is None else bytes(payload)
