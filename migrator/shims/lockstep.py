"""Lockstep as an application does it: ship before the commit, settle after it.

The shared transaction's commit is the decision. Before it, what it wrote is on the service side and prepared there;
after it, that is committed. Whoever dies in between is cleaned up after, by the worker or ``carveout doctor``.
The protocol in SQL is in docs/howto/lockstep.md: another language needs no more than this module does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psycopg

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from migrator.shims.link import Link, Links, closed_on_failure

_PAUSE_S = 0.02
#: The prepared statement of a connection that ships.
_APPLY = "carveout_lockstep_apply"
_ROUND_TRIP_CHARS = 1_000_000
_log = logging.getLogger(__name__)


class LockstepRefused(CarveoutError):
    """The service side did not take the rows, so the transaction is refused: it is on neither side."""

    transient = True


@dataclass(frozen=True)
class Prepared:
    """A part of a transaction that is prepared on the service side of a context."""

    context: str
    gid: str
    #: A connection that is free to end it, and where it goes afterwards.
    link: Link
    links: Links

    def settle(self) -> None:
        """The shared side has committed: commit this part. Where that fails it is only later, not undone."""
        kill_point("shim.decided")
        try:
            with closed_on_failure(self.link):
                self.link.run(f"COMMIT PREPARED '{self.gid}'")
        except psycopg.errors.UndefinedObject:  # the worker was faster
            return
        except psycopg.Error as error:
            _log.warning("context %s: %s is committed by the worker: %s", self.context, self.gid, error)
            return
        self.links.give_back(self.link)
        kill_point("shim.settled")

    def undo(self, error: BaseException) -> None:
        """The commit on the shared side failed: roll back, where the server said so; else the worker finds out."""
        refused = isinstance(error, psycopg.Error) and error.sqlstate is not None
        if not refused or isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown):
            self.link.close()
        else:
            self.roll_back()

    def roll_back(self) -> None:
        """The shared side has not committed and will not."""
        with suppress(psycopg.Error), closed_on_failure(self.link):
            self.link.run(f"ROLLBACK PREPARED '{self.gid}'")
            self.links.give_back(self.link)


def commit_all(parts: Iterable[Callable[[], Prepared | None]], commit: Callable[[], object]) -> None:
    """Prepare all parts, decide, settle them.

    :param parts: each prepares one; None where there is nothing to prepare.
    :param commit: commits the shared side, which is the decision.
    """
    prepared: list[Prepared] = []
    try:
        for part in parts:
            if one := part():
                prepared.append(one)
    except BaseException:
        for one in prepared:
            one.roll_back()
        raise
    try:
        commit()
    except BaseException as error:
        for one in prepared:
            one.undo(error)
        raise
    for one in prepared:
        one.settle()


class Lockstep:
    """Carries transactions of one context to the service side; safe between threads.

    :param connect: opens a connection to the service side, in autocommit; they are kept for later transactions.
    :param wait_limit_s: how long a transaction waits for the service side: for locks there, and while lockstep begins.
    :param pause: waits for some seconds; an event loop has its own.
    """

    def __init__(
        self,
        context: str,
        connect: Callable[[], Link],
        *,
        wait_limit_s: float = 10.0,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._context = context
        # What a connection that ships is told once need not be said with every transaction.
        self._links = Links(
            connect,
            "SELECT carveout.lockstep_session();"
            " SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;"
            f" SET lock_timeout = {int(wait_limit_s * 1000)};"
            f" PREPARE {_APPLY} (text, text) AS SELECT carveout.lockstep_apply_{context}($1, $2)",
        )
        self._pause = pause
        self._wait_limit_s = wait_limit_s
        # Deferred constraint triggers fire now, so that what they write is collected too.
        self._collect = f"SET CONSTRAINTS ALL IMMEDIATE; SELECT gid, payload FROM carveout.lockstep_collect_{context}()"  # noqa: S608

    def ship(self, shared: Link) -> Prepared | None:
        """Write what the open transaction of ``shared`` wrote to the service side, and prepare it there.

        :returns: None where it wrote nothing.
        :raises LockstepRefused: the service side cannot be reached, or is not ready within the limit.
        :raises psycopg.Error: either server refused; the transaction must be rolled back.
        """
        parts = shared.run(self._collect)
        kill_point("shim.collected")
        if not parts:
            return None
        deadline = time.monotonic() + self._wait_limit_s
        while True:
            try:
                return self._prepare(parts[0][0], [payload for _, payload in parts])
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                # Lockstep was entered a moment ago and the stream has not brought everything from before it.
                if time.monotonic() > deadline:
                    raise self._refused(error) from error
                self._pause(_PAUSE_S)
            except psycopg.OperationalError as error:
                if error.sqlstate is not None:  # the server's own word: a deadlock, a lock that was not given in time
                    raise
                raise self._refused(error) from error

    def close(self) -> None:
        """Close the idle connections to the service side."""
        self._links.close()

    def _prepare(self, gid: str, payloads: list[str]) -> Prepared:
        link = self._links.take()
        with closed_on_failure(link):
            *first, last = _batches(payloads)
            begin = "BEGIN; "
            for batch in first:
                link.run(*_shipping(begin, gid, batch))
                begin = ""
            kill_point("shim.shipped")
            statements, values = _shipping(begin, gid, last)
            link.run(f"{statements}; PREPARE TRANSACTION '{gid}'", values)
            kill_point("shim.prepared")
            return Prepared(self._context, gid, link, self._links)

    def _refused(self, error: psycopg.Error) -> LockstepRefused:
        return LockstepRefused(
            f"context {self._context!r} is in lockstep and the service side did not take the write: {error}",
            unchanged="nothing was written on either side",
            next_step=f"try again; where it stays so: carveout dual-write {self._context} off",
        )


def _shipping(begin: str, gid: str, batch: list[str]) -> tuple[str, list[str]]:
    applied = "; ".join([f"EXECUTE {_APPLY} (%s, %s)"] * len(batch))
    return begin + applied, [value for payload in batch for value in (gid, payload)]


def _batches(payloads: list[str]) -> Iterator[list[str]]:
    """Payloads that go in one round trip: a few small ones, or one that is large."""
    batch: list[str] = []
    for payload in payloads:
        if batch and sum(map(len, batch)) + len(payload) > _ROUND_TRIP_CHARS:
            yield batch
            batch = []
        batch.append(payload)
    yield batch
