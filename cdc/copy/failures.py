"""What can go wrong in a copy, by name, and never with a row's value in it."""

from __future__ import annotations

import re

import psycopg
from psycopg.pq import TransactionStatus

from contexts.databases import Connection, Database
from contexts.errors import AccessDenied, CarveoutError, DatabaseUnreachable, SchemaMismatch

UNCHANGED = "the parts that are done stay done, the part under way was rolled back"
_COLUMN = re.compile(r", column (.+?)(?:: |$)", re.MULTILINE)
_FAILED = (TransactionStatus.INERROR, TransactionStatus.UNKNOWN)


class CopyFailed(CarveoutError):
    """A server refused a part of the copy, and will again until somebody helps."""


class DiskFull(CopyFailed):
    """The closed side has no room left."""


class SnapshotLost(CarveoutError):
    """The snapshot ended, or a table was rewritten after it: the next cycle takes a new one."""

    transient = True


class WorkerDied(CarveoutError):
    """A process of the copy was killed."""

    transient = True


def named(
    error: psycopg.Error, what: str, source: tuple[Database, Connection | None], target: Database
) -> CarveoutError:
    """The named error for a server's, told of the side that raised it; ``what`` names table and part."""
    opened, conn = source
    failed = conn is not None and conn.info.transaction_status in _FAILED
    side = opened if failed else target
    message = f"{side.side} database ({side.shown()}): {what}: {_reason(error)}"
    match error.sqlstate:
        case None | "57P01" | "57P02" | "57P03":
            return DatabaseUnreachable(message, unchanged=UNCHANGED, next_step="nothing: the copy is tried again")
        case "53100":
            return DiskFull(message, unchanged=UNCHANGED, next_step="make room on the server, then carveout resume")
        case "42501":
            return AccessDenied(message, unchanged=UNCHANGED, next_step="grant the right, then carveout resume")
        case "42703" | "42P01" | "3F000":
            return SchemaMismatch(message, unchanged=UNCHANGED, next_step="write the missing revision")
        case "22023" | "42704" if "snapshot" in (error.diag.message_primary or ""):
            return SnapshotLost(message, unchanged=UNCHANGED, next_step="nothing: the next cycle takes a new snapshot")
        case "55P03":
            return SnapshotLost(message, unchanged=UNCHANGED, next_step="end the schema change that holds the table")
        case state if state.startswith("08"):
            return DatabaseUnreachable(message, unchanged=UNCHANGED, next_step="nothing: the copy is tried again")
        case _:
            return CopyFailed(message, unchanged=UNCHANGED, next_step="mend the cause, then carveout resume")


def _reason(error: psycopg.Error) -> str:
    """The server's words, but for the classes of errors whose words quote a value."""
    if error.sqlstate is None:
        return " ".join(str(error).split())
    if error.sqlstate[:2] not in ("22", "23"):
        return f"{error.diag.message_primary} ({error.sqlstate})"
    column = _COLUMN.search(error.diag.context or "")
    place = error.diag.constraint_name or error.diag.column_name or (column and column[1])
    return f"{type(error).__name__} ({error.sqlstate}){f' at {place}' if place else ''}"
