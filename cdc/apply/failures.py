"""Names for what the closed side's server can refuse, without the row values that its messages hold."""

from __future__ import annotations

import psycopg
from psycopg import errors

from contexts.errors import AccessDenied, CarveoutError, DatabaseUnreachable, SchemaMismatch, StreamStopped

UNCHANGED = "the open batch was rolled back; the stored position says how far the closed side is"


class TargetBusy(CarveoutError):
    """A deadlock, a lock time limit or a cancelled statement: the same batch can succeed a moment later."""

    transient = True


class TargetFull(CarveoutError):
    """The closed side's server has no disk space or memory left."""


class TargetReadOnly(CarveoutError):
    """The closed side's server accepts no writes: it is a standby or was set read-only."""


_BUSY = (
    errors.DeadlockDetected, errors.LockNotAvailable, errors.SerializationFailure, errors.QueryCanceled,
    errors.TooManyConnections,
)  # fmt: skip
_FULL = (errors.DiskFull, errors.OutOfMemory)
_GONE = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.IdleInTransactionSessionTimeout)
_SHAPE = (
    errors.UndefinedColumn, errors.UndefinedTable, errors.UndefinedObject, errors.DatatypeMismatch,
    errors.GeneratedAlways, errors.InvalidTableDefinition, errors.BadCopyFileFormat,
)  # fmt: skip
_DATA = (psycopg.DataError, psycopg.IntegrityError)


def named(error: psycopg.Error, context: str, what: str = "a batch") -> CarveoutError:
    """The error of ours for a failed statement.

    :param what: what was being written: a table and key, or the batch.
    """
    where = f"context {context!r}: writing {what} on the closed side: "
    if isinstance(error, errors.InsufficientPrivilege):
        return AccessDenied(where + _text(error), unchanged=UNCHANGED, next_step=f"carveout doctor {context}")
    if isinstance(error, _BUSY):
        return TargetBusy(where + _text(error), unchanged=UNCHANGED, next_step="nothing: the worker tries again")
    if isinstance(error, _FULL):
        step = "free disk space or memory on the service database's server, then start the worker"
        return TargetFull(where + _text(error), unchanged=UNCHANGED, next_step=step)
    if isinstance(error, errors.ReadOnlySqlTransaction):
        step = "point the service URL at the primary, then start the worker"
        return TargetReadOnly(where + _text(error), unchanged=UNCHANGED, next_step=step)
    if isinstance(error, _SHAPE):
        step = f"write a revision that makes the table fit, then carveout schema upgrade {context}"
        return SchemaMismatch(where + _text(error), unchanged=UNCHANGED, next_step=step)
    if isinstance(error, _GONE) or error.sqlstate is None:
        return DatabaseUnreachable(
            where + _text(error), unchanged=UNCHANGED, next_step="nothing: the worker tries again"
        )
    return StreamStopped(where + _text(error), unchanged=UNCHANGED, next_step=f"carveout doctor {context}")


def _text(error: psycopg.Error) -> str:
    """What the server said; for data errors only the facts that hold no value."""
    diag = error.diag
    if isinstance(error, _DATA):
        facts = {"constraint": diag.constraint_name, "column": diag.column_name, "type": diag.datatype_name}
        named_facts = ", ".join(f"{kind} {name}" for kind, name in facts.items() if name)
        return f"{type(error).__name__} ({error.sqlstate}{', ' if named_facts else ''}{named_facts})"
    said = diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    return f"{said} ({error.sqlstate})" if error.sqlstate else said
