"""Names for what a server answers on a replication connection."""

from __future__ import annotations

import psycopg
from psycopg import errors

from cdc.source.connection import ChangesSkipped
from contexts.databases import Database
from contexts.errors import (
    AccessDenied,
    CarveoutError,
    DatabaseUnreachable,
    RefusedError,
    SlotLost,
    StreamStopped,
)

_GRANT_REPLICATION = "give the role the REPLICATION attribute"
_NOTHING_LOST = "the slot was not acknowledged beyond the stored position"


class SlotActive(RefusedError):
    """Another session reads the slot; it may end by itself."""

    transient = True


class PublicationMissing(StreamStopped):
    """The publication does not exist where the slot reads: changes would be left out without a word."""


def slot_active(slot: str, pid: int | str) -> SlotActive:
    """The error for a slot that session ``pid`` holds."""
    return SlotActive(
        f"slot {slot!r} is in use by the session with pid {pid}",
        unchanged="the slot and its session were left alone",
        next_step="stop the other worker, or wait until the server notices that it is gone",
    )


def publication_missing(publication: str, reason: str) -> PublicationMissing:
    """The error for a publication that is not there, now or where the slot reads."""
    return PublicationMissing(
        f"publication {publication!r}: {reason}",
        unchanged=_NOTHING_LOST,
        next_step="create the publication, drop the slot, and copy again: the slot must be made after the publication",
    )


def slot_lost(slot: str, reason: str) -> SlotLost:
    """The error for a slot that does not hold all changes since the stored position."""
    return SlotLost(
        f"slot {slot!r} {reason}",
        unchanged="no row was written and the slot was left as it is",
        next_step="the changes since then are gone from the server: copy again, or repair with a full diff",
    )


def unreachable(database: Database, slot: str, reason: str) -> DatabaseUnreachable:
    """The error for a stream that broke and can be taken up again."""
    return DatabaseUnreachable(
        f"{_where(database, slot)}: the stream broke: {reason}",
        unchanged=_NOTHING_LOST,
        next_step="nothing: the worker goes on from the stored position",
    )


def not_made(slot: str, error: psycopg.Error) -> CarveoutError:
    """The named error for what the server answered when it was asked to make a slot."""
    reason, unchanged = _reason(error), "no slot was made"
    match error:
        case errors.DuplicateObject():
            return RefusedError(
                f"slot {slot!r} exists already",
                unchanged="the slot was left as it is",
                next_step="find out who reads it; drop it if nobody does",
            )
        case errors.ConfigurationLimitExceeded():
            step = "drop slots that nobody reads, or raise max_replication_slots"
        case errors.ObjectNotInPrerequisiteState():
            step = "set wal_level = logical and restart the server"
        case errors.InsufficientPrivilege():
            return AccessDenied(
                f"slot {slot!r} could not be made: {reason}", unchanged=unchanged, next_step=_GRANT_REPLICATION
            )
        case _ if _is_broken(error):
            return DatabaseUnreachable(
                f"slot {slot!r} could not be made, the connection broke: {reason}",
                unchanged="a slot that was being made goes with its connection",
                next_step="run the command again",
            )
        case _:
            step = "see the server's log, then run the command again"
    return RefusedError(f"slot {slot!r} could not be made: {reason}", unchanged=unchanged, next_step=step)


def named(error: psycopg.Error, database: Database, slot: str, publication: str) -> CarveoutError:
    """The named error for what the server answered while the slot was started or read."""
    reason = _reason(error)
    match error:
        case errors.ObjectInUse():
            return slot_active(slot, "unknown")
        case errors.UndefinedObject() | ChangesSkipped():
            # The slot was there a moment ago: the plugin looks for its publication at the first change.
            return publication_missing(publication, reason)
        case errors.ObjectNotInPrerequisiteState() | errors.UndefinedFile():
            return slot_lost(slot, f"cannot be read: {reason}")
        case errors.InsufficientPrivilege():
            return AccessDenied(
                f"{_where(database, slot)}: {reason}",
                unchanged=_NOTHING_LOST,
                next_step=_GRANT_REPLICATION,
            )
        case _ if _is_broken(error):
            return unreachable(database, slot, reason)
        case _:
            return StreamStopped(
                f"{_where(database, slot)}: {reason}",
                unchanged=_NOTHING_LOST,
                next_step="see the server's log, then start the worker again",
            )


def _where(database: Database, slot: str) -> str:
    return f"{database.side} database ({database.shown()}), slot {slot!r}"


def _is_broken(error: psycopg.Error) -> bool:
    """Whether the session ended for a reason that has nothing to do with what it was asked."""
    state = error.sqlstate or "08000"
    return isinstance(error, psycopg.OperationalError) and state[:2] in ("08", "53", "57")


def _reason(error: psycopg.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split())
