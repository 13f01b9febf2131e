"""The messages of pgoutput that frame transactions, as typed tuples.

Field names follow the manual's chapter "Logical Replication Message Formats". Log positions are integers, times
microseconds since the Unix epoch. The messages that carry rows become :mod:`cdc.events` instead.
"""

from __future__ import annotations

from typing import NamedTuple

from contexts.model import TableName


class Begin(NamedTuple):
    """The first message of a transaction that is sent at its commit."""

    commit_lsn: int
    commit_time_us: int
    xid: int


class Commit(NamedTuple):
    """The last message of such a transaction."""

    commit_lsn: int
    end_lsn: int
    commit_time_us: int


class Origin(NamedTuple):
    """The transaction was itself replicated from elsewhere."""

    commit_lsn: int
    name: str


class Type(NamedTuple):
    """Name of a type made by a user; for a domain, the name of its base type."""

    oid: int
    name: TableName


class StreamStart(NamedTuple):
    """A block of a transaction that is still open on the server begins."""

    xid: int
    first: bool


class StreamStop(NamedTuple):
    """The block ends."""


class StreamCommit(NamedTuple):
    """A streamed transaction has committed."""

    xid: int
    commit_lsn: int
    end_lsn: int
    commit_time_us: int


class StreamAbort(NamedTuple):
    """A subtransaction of a streamed transaction was rolled back, or all of it where ``subxid == xid``."""

    xid: int
    subxid: int
    #: Sent only with ``streaming 'parallel'``.
    abort_lsn: int | None
    abort_time_us: int | None


class BeginPrepare(NamedTuple):
    """The first message of a transaction that is sent at its PREPARE."""

    prepare_lsn: int
    end_lsn: int
    prepare_time_us: int
    xid: int
    gid: str


class Prepare(NamedTuple):
    """The last message of such a transaction."""

    prepare_lsn: int
    end_lsn: int
    prepare_time_us: int
    xid: int
    gid: str


class StreamPrepare(NamedTuple):
    """A streamed transaction was prepared."""

    prepare_lsn: int
    end_lsn: int
    prepare_time_us: int
    xid: int
    gid: str


class CommitPrepared(NamedTuple):
    """A transaction sent at its PREPARE has committed."""

    commit_lsn: int
    end_lsn: int
    commit_time_us: int
    xid: int
    gid: str


class RollbackPrepared(NamedTuple):
    """A transaction sent at its PREPARE was rolled back."""

    prepare_end_lsn: int
    rollback_end_lsn: int
    prepare_time_us: int
    rollback_time_us: int
    xid: int
    gid: str


Frame = (
    Begin
    | Commit
    | Origin
    | StreamStart
    | StreamStop
    | StreamCommit
    | StreamAbort
    | BeginPrepare
    | Prepare
    | StreamPrepare
    | CommitPrepared
    | RollbackPrepared
)
