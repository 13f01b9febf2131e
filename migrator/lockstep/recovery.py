"""Ends prepared transactions that their application did not end.

The decision is the shared transaction's own commit, and the witness is the row that it wrote: the row is there exactly
when it committed. ``pg_xact_status`` alone would not do: after a crash the server may give the same transaction id to
somebody else, since an id is durable only with the first flushed record that carries it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from contexts.databases import Connection

_PREPARED = (
    "SELECT gid, owner, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts"
    " WHERE database = current_database() AND starts_with(gid, %s)"
    " AND prepared < clock_timestamp() - %s * interval '1 second' ORDER BY prepared"
)


class Fate(enum.Enum):
    """What becomes of a prepared transaction."""

    COMMIT = enum.auto()
    ROLL_BACK = enum.auto()
    #: Its application is still at work.
    WAITS = enum.auto()
    #: Its server is another one now (a fail-over) and does not know it: a human decides.
    UNDECIDED = enum.auto()


@dataclass(frozen=True)
class InDoubt:
    """A transaction that is prepared on the service side."""

    gid: str
    owner: str
    age_s: float
    fate: Fate

    @property
    def xid(self) -> int:
        """Its transaction on the shared side."""
        return _xid(self.gid)


@dataclass
class Recovered:
    """What became of the prepared transactions that were found."""

    committed: list[str] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def in_doubt(shared: Connection, service: Connection, context: str, *, min_age_s: float = 0.0) -> Iterator[InDoubt]:
    """What is prepared on the service side, the oldest first, and what the shared side has decided; changes nothing."""
    for gid, owner, age_s in service.execute(_PREPARED, (f"carveout:{context}:", min_age_s)).fetchall():
        yield InDoubt(gid, owner, age_s, _fate(shared, gid))


def recover(shared: Connection, service: Connection, context: str, *, min_age_s: float = 0.0) -> Recovered:
    """Commit or roll back what is prepared on the service side, as the shared side decided.

    :param min_age_s: younger ones are left to their application.
    """
    found = Recovered()
    for one in in_doubt(shared, service, context, min_age_s=min_age_s):
        match one.fate:
            case Fate.COMMIT if end(service, one.gid, one.owner, commit=True):
                found.committed.append(one.gid)
            case Fate.ROLL_BACK if end(service, one.gid, one.owner, commit=False):
                found.rolled_back.append(one.gid)
            case Fate.WAITS:
                found.waiting.append(one.gid)
            case Fate.UNDECIDED:
                found.undecided.append(one.gid)
            case _:  # its application was faster
                pass
    return found


def _fate(shared: Connection, gid: str) -> Fate:
    match decision(shared, gid):
        case True:
            return Fate.COMMIT
        case False:
            return Fate.ROLL_BACK
        case None:
            return Fate.WAITS if _is_same_server(shared, gid) else Fate.UNDECIDED


def decision(shared: Connection, gid: str) -> bool | None:
    """Whether the transaction committed on the shared side; None while that is not known."""
    if _is_decided(shared, gid):
        return True
    if not _is_same_server(shared, gid) or _is_in_progress(shared, _xid(gid)):
        return None
    # It may have committed between the two looks; now it is over, so this one is final.
    return _is_decided(shared, gid)


def end(service: Connection, gid: str, owner: str, *, commit: bool) -> bool:
    """End a prepared transaction; False where it was ended meanwhile. The right belongs to who prepared it."""
    verb = sql.SQL("COMMIT PREPARED {}" if commit else "ROLLBACK PREPARED {}").format(sql.Literal(gid))
    try:
        try:
            service.execute(verb)
        except psycopg.errors.InsufficientPrivilege:
            service.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
            try:
                service.execute(verb)
            finally:
                service.execute("RESET ROLE")
    except psycopg.errors.UndefinedObject:
        return False
    return True


def forget(shared: Connection, service: Connection, context: str) -> int:
    """Remove the decisions that nobody can ask for any more; returns how many.

    A decision is visible only after its transaction was prepared: what is not prepared now was ended.
    """
    decided = [gid for (gid,) in shared.execute(
        "SELECT gid FROM carveout.lockstep_decision WHERE context = %s AND decided_at < now() - interval '10 s'"
        " LIMIT 10000", (context,)
    )]  # fmt: skip
    if not decided:
        return 0
    prepared = {gid for (gid,) in service.execute("SELECT gid FROM pg_prepared_xacts")}
    over = [gid for gid in decided if gid not in prepared]
    shared.execute("DELETE FROM carveout.lockstep_decision WHERE gid = ANY (%s)", (over,))
    return len(over)


def _xid(gid: str) -> int:
    return int(gid.rsplit(":", 1)[1])


def _is_decided(shared: Connection, gid: str) -> bool:
    return shared.execute("SELECT 1 FROM carveout.lockstep_decision WHERE gid = %s", (gid,)).fetchone() is not None


def _is_same_server(shared: Connection, gid: str) -> bool:
    row = shared.execute(
        "SELECT system_identifier || ':' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
        " FROM pg_control_system()"
    ).fetchone()
    return row is not None and ":".join(gid.split(":")[2:4]) == row[0]


def _is_in_progress(shared: Connection, xid: int) -> bool:
    try:
        row = shared.execute("SELECT pg_xact_status(%s::text::xid8) = 'in progress'", (xid,)).fetchone()
    except psycopg.errors.InvalidParameterValue:  # an id that the server has not given yet: lost in a crash
        return False
    return bool(row and row[0])
