"""What a source yields: whole committed transactions, in commit order.

A value is the PostgreSQL text of a column as bytes, ``None`` for NULL, :data:`UNCHANGED` for a TOAST value that
the update did not touch, or :data:`ABSENT` where the source does not say. Values are never parsed on the way.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from contexts.model import TableName


class Missing(enum.Enum):
    """Why a value is not there although it is not NULL."""

    UNCHANGED = "unchanged"
    ABSENT = "absent"

    def __repr__(self) -> str:
        return f"<{self.value}>"


UNCHANGED: Final = Missing.UNCHANGED
ABSENT: Final = Missing.ABSENT

Value = bytes | None | Missing
Row = list[Value]


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as the source describes it; ``type_oid`` belongs to the source's catalog."""

    name: str
    type_oid: int
    typmod: int
    #: Part of the replica identity (all columns are, where it is FULL).
    is_key: bool


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """The shape of a table from some point of the stream on; a changed shape is a new object."""

    oid: int
    table: TableName
    #: d(efault), n(othing), f(ull) or i(ndex).
    replica_identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(slots=True)
class Insert:
    """A new row; ``new`` is in the order of ``relation.columns``."""

    relation: Relation
    new: Row


@dataclass(slots=True)
class Update:
    """A changed row.

    ``old`` is None where the key did not change and the identity is not FULL. Where ``old_is_full`` is false only
    the key columns of ``old`` mean anything: the others are None and do *not* mean NULL.
    """

    relation: Relation
    new: Row
    old: Row | None
    old_is_full: bool


@dataclass(slots=True)
class Delete:
    """A deleted row; see :class:`Update` for ``old``."""

    relation: Relation
    old: Row
    old_is_full: bool


@dataclass(slots=True)
class Truncate:
    """Tables emptied by one TRUNCATE."""

    relations: tuple[Relation, ...]
    cascade: bool
    restart_identity: bool


@dataclass(slots=True)
class Message:
    """A logical message (``pg_logical_emit_message``)."""

    prefix: str
    content: bytes
    lsn: int


Change = Insert | Update | Delete | Truncate | Message


class RecordDecoder(Protocol):
    """Decodes the records of one transaction, in their order."""

    @property
    def relations(self) -> Mapping[int, Relation]:
        """The relations by OID at this point of the transaction; a new mapping where one has changed."""

    def decode(self, record: bytes) -> Change | None:
        """The change of a record, or None where it only describes something.

        :raises StreamStopped: the record is malformed.
        """


@dataclass(slots=True)
class Packed:
    """A transaction's changes as the server sent them (see :mod:`cdc.source.packed`)."""

    records: Iterable[bytes]
    decoder: RecordDecoder


@dataclass(slots=True)
class Transaction:
    """A committed source transaction. ``changes`` can be iterated once; it may read from a spool file."""

    xid: int
    #: Start of the commit record: a transaction belongs before a barrier at L when ``commit_lsn < L``.
    commit_lsn: int
    #: End of the commit record: the position once this transaction is applied.
    end_lsn: int
    #: Microseconds since the Unix epoch, by the source's clock.
    commit_time_us: int
    changes: Iterable[Change]
    #: How many messages and payload bytes ``changes`` holds, for bounding batches.
    size: int
    bytes: int
    #: Source-specific position once this transaction is applied (a Kafka offset); 0 where the LSN says all.
    ordinal: int = 0
    #: The same in each further partition, where the rows come in several.
    parts: tuple[int, ...] = ()
    #: The changes in another form, to be taken instead of ``changes``; None where there is a logical message among
    #: them, or the source has no such form.
    packed: Callable[[], Packed] | None = None
    #: Where the transaction is handed out while it is still being received: waits for the rest. It is committed, but
    #: ``end_lsn`` is 0, and ``size`` and ``bytes`` count what has come, until this has returned or the changes are
    #: exhausted. Then its packed form may hold messages.
    await_whole: Callable[[], None] | None = None
    #: No logical message is among the changes, which are in memory: nothing has to be looked at before it is written.
    only_rows: bool = False


@dataclass(slots=True)
class Idle:
    """Nothing that was committed at or before ``lsn`` is still to come."""

    lsn: int
    #: As in :class:`Transaction`: stored together with ``lsn``.
    ordinal: int = 0
    parts: tuple[int, ...] = ()


Event = Transaction | Idle
