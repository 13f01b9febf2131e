"""Who stands in the way of a fence: named, waited for while nobody else has to wait, and ended only on request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.errors import AccessDenied, CarveoutError
from contexts.model import Side
from migrator.control import migrations
from migrator.executor import Row
from migrator.run import Run

SHOWN = 5
POLL_S = 0.1
_SQL = sqlfiles.load("migrator.switch", "blockers.sql")
_log = logging.getLogger(__name__)


class Blocked(CarveoutError):
    """Transactions that stand in the way did not end in time."""

    transient = True


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session or a prepared transaction in the way of the switch."""

    pid: int | None
    gid: str | None
    role: str
    application: str
    #: The session's state, or what kind of autovacuum it is.
    what: str
    transaction_s: float
    query_s: float | None
    waits_for: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, row: Row) -> Blocker:
        """A row of ``blockers.sql``."""
        return cls(row[0], row[1], row[2], row[3], row[4], row[5], row[6], tuple(row[7]))

    def __str__(self) -> str:
        if self.gid is not None:
            return f"prepared transaction {self.gid!r} ({self.role}, {self.transaction_s:.0f} s)"
        query = f", last query {self.query_s:.0f} s ago" if self.query_s is not None else ""
        behind = f", itself waits for pid {', '.join(map(str, self.waits_for))}" if self.waits_for else ""
        return (
            f"pid {self.pid} ({self.role}, {self.application}, {self.what}, {self.transaction_s:.0f} s{query}{behind})"
        )


def on_tables(run: Run, side: Side) -> list[Blocker]:
    """All that hold, or queue for, a lock on the tables that a fence cannot share."""
    names = [sql.Identifier(*name).as_string() for name in run.context.table_names]
    return [Blocker.of(row) for row in _read(run, side, "blockers", tables=names)]


def older(run: Run, side: Side) -> list[Blocker]:
    """Those that are older than an attempt to lock; plain autovacuum does not count: a fence asks it to leave."""
    age_s = run.context.options.lock_timeout_ms / 1000
    return [one for one in on_tables(run, side) if one.transaction_s > age_s and one.what != "autovacuum"]


def await_no_queue(run: Run, side: Side, *, patience_s: float, terminate: bool) -> None:
    """Wait until nobody waits for more of a table than we do: behind that one even a look at the table would wait.

    :raises Blocked: names them, and whom they wait for.
    """
    _await(run, side, lambda: [one for one in older(run, side) if one.waits_for], patience_s, terminate)


def sessions(run: Run, side: Side, pids: Sequence[int]) -> list[Blocker]:
    """The sessions of server processes."""
    return [Blocker.of(row) for row in _read(run, side, "sessions", pids=list(pids))] if pids else []


def shown(found: Iterable[Blocker]) -> str:
    """The oldest of them, for a message."""
    texts = [str(blocker) for blocker in found]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more or "none any more"


def await_none(run: Run, side: Side, *, patience_s: float, terminate: bool) -> None:
    """Wait until no transaction that is older than a lock attempt stands in the way; takes no lock itself.

    :param terminate: end the sessions instead.
    :raises Blocked: names those that are still there after ``patience_s``.
    """
    _await(run, side, lambda: older(run, side), patience_s, terminate)


def _await(run: Run, side: Side, look: Callable[[], list[Blocker]], patience_s: float, terminate: bool) -> None:
    deadline = time.monotonic() + patience_s
    while found := look():
        if terminate:
            end(run, side, found)
        if time.monotonic() > deadline:
            raise Blocked(
                f"context {run.name!r}: transactions on the {side} side stand in the way: {shown(found)}",
                unchanged=f"the {side} side is open as before, no write had to wait",
                next_step="end them (--terminate-blockers does so), or try again when they are done",
            )
        time.sleep(POLL_S)


def end(run: Run, side: Side, found: Iterable[Blocker]) -> None:
    """Terminate their sessions; prepared transactions and autovacuum against wraparound are left alone.

    :raises AccessDenied: the role may not.
    """
    for blocker in found:
        if blocker.pid is None or blocker.what.startswith("autovacuum"):
            continue
        _log.warning("context %s: terminating %s on the %s side, as asked", run.name, blocker, side)
        try:
            run.executor.write(side, _SQL["terminate"], {"pid": blocker.pid})  # type: ignore[arg-type]
        except psycopg.errors.InsufficientPrivilege as error:
            raise AccessDenied(
                f"context {run.name!r}: {blocker} may not be terminated by this role",
                unchanged=f"the {side} side is open as before",
                next_step="GRANT pg_signal_backend TO the role, or end the session by hand",
            ) from error
        migrations.record(run.control, run.name, "terminated", {"side": side, "session": str(blocker)})


def _read(run: Run, side: Side, name: str, **parameters: object) -> list[Row]:
    return run.executor.connection(side).execute(_SQL[name], parameters).fetchall()
