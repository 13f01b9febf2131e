"""The audit of lockstep: what applications wrote to both sides, compared with what the stream says they wrote.

A transaction that came through the shim begins with a mark in the stream. Its rows are here already, so they are not
written again: they are compared with the ledger, into which the shim's function on this side read them back. A
transaction without a mark is applied, or, in lockstep, is a finding: applied late it could overwrite something newer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from cdc.apply import markers
from cdc.apply.images import Image, Key, Ledgered, Places, row_of, rows_of
from cdc.apply.markers import Marker
from cdc.apply.recent import RecentKeys
from cdc.apply.watch import Watch
from cdc.events import ABSENT, Change, Delete, Insert, Message, Relation, Row, Transaction, Truncate, Update
from cdc.lsn import format_lsn
from contexts.databases import Connection
from contexts.errors import CarveoutError
from contexts.model import TableName

#: Kinds of marks and markers.
DUAL, UNSHIMMED, ENTERED, LEFT = "dual", "unshimmed", "lockstep", "lockstep_off"
PENDING_S = 30.0
#: Rows as they were before a transaction: their columns as text.
Before = dict[Key, list[str | None]]
_PAUSE_S = 0.005
_log = logging.getLogger(__name__)


class LockstepPending(CarveoutError):
    """A transaction is committed on the open side, and here still prepared."""

    transient = True


@dataclass
class Audited:
    """One marked transaction of the open batch."""

    gid: str
    end_lsn: int
    images: dict[Key, Image] = field(default_factory=dict)
    names: dict[int, TableName] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A row that is not on both sides what one transaction made of it."""

    gid: str
    end_lsn: int
    table: TableName
    key: tuple[str, ...]
    kind: str
    columns: tuple[str, ...] = ()


class Audit:
    """Belongs to one applier and its session."""

    def __init__(self, conn: Connection, context: str, recent: RecentKeys, watch: Watch | None = None) -> None:
        self._conn = conn
        self._context = context
        self._recent = recent
        self._watch = watch
        self._tables: dict[TableName, Ledgered] = {}
        self._open: list[Audited] = []
        self._found: list[Difference] = []
        self._writers: dict[tuple[str, ...], int] = {}
        self._places: dict[Relation, Places] = {}
        #: Tables that somebody looks at, and whose former rows the ledger does not have.
        self._unseen: set[TableName] = set()
        self._in_lockstep = self._read_phase()

    @property
    def in_lockstep(self) -> bool:
        """Whether every transaction is looked at; otherwise only those that hold a message."""
        return self._in_lockstep

    def changes(self, transaction: Transaction) -> Iterable[Change]:
        """What is left to apply of a transaction."""
        source = iter(transaction.changes)
        passed: list[Change] = []
        for change in source:
            if not isinstance(change, Message):
                source = chain((change,), source)
                break
            if gid := self._mark(change):
                return chain(passed, self._record(Audited(gid, transaction.end_lsn), source))
            passed.append(change)
        rest = self._unmarked(transaction, source) if self._in_lockstep else source
        return chain(passed, rest) if passed else rest

    def notes(self, message: Message) -> bool:
        """Whether a message is for the audit and no marker."""
        content = markers.content(message, self._context)
        if content is None or content["kind"] != UNSHIMMED:
            return False
        writer = tuple(map(str, content["writer"]))
        self._writers[writer] = self._writers.get(writer, 0) + 1
        return True

    def passed(self, marker: Marker) -> None:
        """A marker was read: from the next transaction on the phase may be another one."""
        if marker.kind in (ENTERED, LEFT):
            self._in_lockstep = marker.kind == ENTERED
            self._read_tables()

    def settle(self) -> None:
        """Compare the batch's transactions and store what was found, in the open transaction.

        :raises LockstepPending: one is still prepared here after a while; nothing is lost by trying again.
        """
        if self._open:
            self._compare()
        self._store()
        self._open, self._found, self._writers = [], [], {}

    def _mark(self, message: Message) -> str | None:
        content = markers.content(message, self._context)
        return str(content["id"]) if content is not None and content["kind"] == DUAL else None

    def _record(self, audited: Audited, changes: Iterable[Change]) -> Iterator[Change]:
        """Keep the net images of a transaction; its messages go on."""
        for change in changes:
            if isinstance(change, Message):
                if not self._mark(change):
                    yield change
            elif isinstance(change, Truncate):
                self._truncated(audited, change)
            else:
                self._record_row(audited, change)
        self._open.append(audited)

    def _record_row(self, audited: Audited, change: Insert | Update | Delete) -> None:
        places = self._places_of(change.relation)
        audited.names[places.tab] = places.name
        if self._watch:
            self._show(self._watch, places, audited.gid, change)
        if places.unknown:
            self._found.append(Difference(
                audited.gid, audited.end_lsn, places.name, places.key_of(row_of(change)), "column", places.unknown
            ))  # fmt: skip
        if isinstance(change, Delete):
            self._keep(audited, places, places.key_of(change.old), None)
            return
        key = places.tab, places.key_of(change.new, None if isinstance(change, Insert) else change.old)
        before = audited.images.get(key)
        if isinstance(change, Update) and change.old is not None:
            old = places.tab, places.key_of(change.old)
            before = audited.images.get(old)
            if old != key:
                self._keep(audited, places, old[1], None)
        self._keep(audited, places, key[1], places.image(change.new, before))

    def _show(self, watch: Watch, places: Places, gid: str, change: Insert | Update | Delete) -> None:
        if places.watched:
            watch.note_audited(gid, change)
        elif watch.watches(change.relation) and places.name not in self._unseen:
            self._unseen.add(places.name)
            _log.warning(
                "context %s: what was declared of %s after lockstep began looks at no change before it begins anew",
                self._context, places.name,
            )  # fmt: skip

    def _keep(self, audited: Audited, places: Places, key: tuple[str, ...], image: Image) -> None:
        audited.images[places.tab, key] = image
        self._recent.audited(places.name, places.key_names, key)

    def _truncated(self, audited: Audited, change: Truncate) -> None:
        for relation in change.relations:
            self._found.append(Difference(audited.gid, audited.end_lsn, relation.table, (), "truncate"))

    def _unmarked(self, transaction: Transaction, changes: Iterable[Change]) -> Iterator[Change]:
        """A write past the shim: its keys are kept for the repair, its rows are not applied."""
        for change in changes:
            if isinstance(change, Message):
                yield change
            elif isinstance(change, Truncate):
                self._truncated(Audited(f"xid {transaction.xid}", transaction.end_lsn), change)
            else:
                if self._watch:
                    self._watch.note(change)
                places = self._places_of(change.relation)
                keys = {places.key_of(row) for row in rows_of(change)}
                self._found += [
                    Difference(f"xid {transaction.xid}", transaction.end_lsn, places.name, key, "unmarked")
                    for key in sorted(keys)
                ]

    def _compare(self) -> None:
        wanted = {audited.gid: audited for audited in self._open if audited.images}
        ledger, before = self._read_ledger(set(wanted))
        if self._watch:
            self._watch.show_audited(lambda gid, relation, named: self._before(before.get(gid, {}), relation, named))
        for gid, audited in wanted.items():
            there = ledger.get(gid)
            if there is None:
                self._found += [_difference(audited, key, "missing") for key in audited.images]
                continue
            for key, image in audited.images.items():
                self._compare_row(audited, key, image, there)
            self._found += [
                _difference(audited, key, "extra")
                for key in there.keys() - audited.images.keys() if there[key] is not None
            ]  # fmt: skip

    def _compare_row(self, audited: Audited, key: Key, image: Image, there: dict[Key, Image]) -> None:
        if key not in there:
            self._found.append(_difference(audited, key, "not shipped"))
            return
        other = there[key]
        if image is None or other is None:
            if image is not other:
                self._found.append(_difference(audited, key, "missing" if other is None else "extra"))
            return
        columns = self._columns(key[0])
        if differing := tuple(
            name for name, ours, theirs in zip(columns, image, other, strict=True)
            if ours is not ABSENT and ours != theirs
        ):  # fmt: skip
            self._found.append(_difference(audited, key, "different", differing))

    def _before(self, before: Before, relation: Relation, named: Row) -> Row | None:
        places = self._places_of(relation)
        found = before.get((places.tab, places.key_of(named)))
        return None if found is None else places.row(found)

    def _read_ledger(self, gids: set[str]) -> tuple[dict[str, dict[Key, Image]], dict[str, Before]]:
        """The ledger of the transactions: rows after them, rows before; waits for those that are still prepared."""
        found: dict[str, dict[Key, Image]] = {}
        before: dict[str, Before] = {}
        deadline = time.monotonic() + PENDING_S
        while missing := sorted(gids - found.keys()):
            # Looked at first: what is committed between the two looks is in the ledger.
            prepared = self._conn.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE gid = ANY (%s)", (missing,)
            ).fetchall()
            rows = self._conn.execute(
                "SELECT gid, tab, key, hashes, before FROM carveout.lockstep_ledger WHERE gid = ANY (%s)", (missing,)
            )
            for gid, tab, key, hashes, row in rows:
                images: dict[Key, Any] = (found if row is None else before).setdefault(gid, {})
                images[tab, tuple(key)] = hashes if row is None else row
            if not prepared:
                break
            if time.monotonic() > deadline:
                raise LockstepPending(
                    f"context {self._context!r}: {prepared[0][0]} is committed on the open side and prepared here",
                    unchanged="the position stays before it",
                    next_step=f"carveout doctor {self._context}",
                )
            time.sleep(_PAUSE_S)  # COMMIT PREPARED tells nobody
        return found, before

    def _store(self) -> None:
        if self._open:
            gids = [audited.gid for audited in self._open]
            self._conn.execute("DELETE FROM carveout.lockstep_ledger WHERE gid = ANY (%s)", (gids,))
            self._conn.execute(
                "UPDATE carveout.lockstep SET audited = audited + %s WHERE context = %s", (len(gids), self._context)
            )
        for found in self._found:
            self._conn.execute(
                "INSERT INTO carveout.lockstep_difference"
                " (context, gid, end_lsn, table_schema, table_name, key, kind, columns)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (self._context, found.gid, format_lsn(found.end_lsn), *found.table, list(found.key), found.kind,
                 list(found.columns)),
            )  # fmt: skip
        for writer, transactions in self._writers.items():
            self._conn.execute(
                "INSERT INTO carveout.unshimmed_writer AS w VALUES"
                " (%s, %s, %s, %s, %s, %s, clock_timestamp(), clock_timestamp())"
                " ON CONFLICT (context, table_schema, table_name, role, application) DO UPDATE SET"
                " transactions = w.transactions + excluded.transactions, last_seen = excluded.last_seen",
                (self._context, *writer, transactions),
            )

    def _read_phase(self) -> bool:
        row = self._conn.execute(
            "SELECT kind FROM carveout.marker WHERE context = %s AND kind IN (%s, %s) ORDER BY end_lsn DESC LIMIT 1",
            (self._context, ENTERED, LEFT),
        ).fetchone()
        self._read_tables()
        return row is not None and row[0] == ENTERED

    def _read_tables(self) -> None:
        rows = self._conn.execute(
            "SELECT table_schema, table_name, tab, key, columns, watched FROM carveout.lockstep_table"
            " WHERE context = %s", (self._context,)
        )  # fmt: skip
        self._tables = {
            TableName(schema, table): Ledgered(tab, tuple(key), tuple(names), watched)
            for schema, table, tab, key, names, watched in rows
        }
        self._places = {}

    def _columns(self, tab: int) -> tuple[str, ...]:
        return next(table.columns for table in self._tables.values() if table.tab == tab)

    def _places_of(self, relation: Relation) -> Places:
        places = self._places.get(relation)
        if places is None:
            places = self._places[relation] = Places(relation, self._tables.get(relation.table))
        return places


def _difference(audited: Audited, key: Key, kind: str, columns: tuple[str, ...] = ()) -> Difference:
    return Difference(audited.gid, audited.end_lsn, audited.names.get(key[0], TableName("", f"table {key[0]}")), key[1],
                      kind, columns)  # fmt: skip
