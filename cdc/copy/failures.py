"""What can go wrong in a copy, by name, and never with a row's value in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg

from contexts.databases import Database
from contexts.errors import AccessDenied, CarveoutError, DatabaseUnreachable, SchemaMismatch

UNCHANGED = "the parts that are done stay done, the part under way was rolled back"
_COLUMN = re.compile(r", column (.+?)(?:: |$)", re.MULTILINE)


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


@contextlib.contextmanager
def naming(what: str, where: str) -> Iterator[None]:
    """Turn a server's error into a named one; ``what`` names the table and the part, or what else was done."""
    try:
        yield
    except psycopg.Error as error:
        raise named(error, what, where) from error


def place(database: Database) -> str:
    """A side's database, for a message."""
    return f"{database.side} database ({database.shown()})"


def named(error: psycopg.Error, what: str, where: str) -> CarveoutError:
    """The named error for a server's."""
    message = f"{where}: {what}: {_reason(error)}"
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
        return str(error).partition("\n")[0]  # libpq's own words; a server's details may follow
    if error.sqlstate[:2] not in ("22", "23"):
        return f"{error.diag.message_primary} ({error.sqlstate})"
    column = _COLUMN.search(error.diag.context or "")
    place = error.diag.constraint_name or error.diag.column_name or (column and column[1])
    return f"{type(error).__name__} ({error.sqlstate}){f' at {place}' if place else ''}"
