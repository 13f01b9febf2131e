"""The log of repairs: which key, in which class, at which position, when and by whom; no values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from cdc.lsn import format_lsn, parse_lsn
from contexts import sqlfiles
from contexts.databases import Connection, Database
from contexts.model import TableName
from migrator.control.migrations import Migration
from validations.diff.model import Key, Kind

_SQL = sqlfiles.load("migrator.repair", "log.sql")


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys of one table that are still to be done."""

    table: TableName
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a repair is."""

    keys: int
    done: int
    missing_on_closed: int
    missing_on_open: int
    different: int
    lsn_first: int | None
    lsn_last: int | None

    @property
    def repaired(self) -> int:
        """Keys whose row was written or deleted; the others were equal when their turn came."""
        return self.missing_on_closed + self.missing_on_open + self.different


@dataclass(frozen=True)
class Log:
    """The repairs of one context, on a session of its own."""

    session: Connection

    def unfinished(self, migration: Migration) -> int | None:
        """The repair that was not ended; those from before a switch are given up, their sides were the other way."""
        self.session.execute(_SQL["abandon"], (migration.context, migration.epoch))
        row = self.session.execute(_SQL["unfinished"], (migration.context, migration.epoch)).fetchone()
        return row[0] if row else None

    def begin(self, migration: Migration, chosen: Iterable[tuple[TableName, Key]]) -> int:
        """Store a repair with all its keys, before anything is written."""
        with self.session.transaction(), self.session.cursor() as cursor:
            values = (migration.context, migration.epoch, migration.open_side)
            found: int = cursor.execute(_SQL["begin"], values).fetchall()[0][0]
            with cursor.copy(_SQL["add_keys"]) as copy:
                for table, key in chosen:
                    copy.write_row((found, *table, list(key)))
        return found

    def next(self, repair: int, limit: int) -> Batch | None:
        """At most ``limit`` keys of one table, or None where all is done."""
        rows = self.session.execute(_SQL["next"], {"repair": repair, "limit": limit}).fetchall()
        return Batch(TableName(*rows[0][:2]), tuple(tuple(key) for *_, key in rows)) if rows else None

    def begun(self, repair: int, batch: Batch, kinds: Mapping[Key, Kind], lsn: int) -> None:
        """Say what will be done to each key of the batch; one that was begun before and is equal now keeps its line."""
        self.session.execute(_SQL["begun"], _of(repair, batch, kinds) | {"lsn": format_lsn(lsn)})

    def done(self, repair: int, batch: Batch) -> None:
        """The rows of the batch are committed."""
        self.session.execute(_SQL["done"], _of(repair, batch, {}))

    def counts(self, repair: int) -> Counts:
        """How far a repair is."""
        row = self.session.execute(_SQL["counts"], (repair,)).fetchall()[0]
        first, last = (lsn and parse_lsn(lsn) for lsn in row[5:])
        return Counts(row[0], row[1], row[2], row[3], row[4], first, last)

    def tables(self, repair: int) -> list[TableName]:
        """The tables of its keys."""
        return [TableName(*row) for row in self.session.execute(_SQL["tables"], (repair,))]

    def keys(self, repair: int, table: TableName) -> list[Key]:
        """Its keys in a table."""
        return [tuple(key) for (key,) in self.session.execute(_SQL["keys"], (repair, *table))]

    def finish(self, repair: int, compared_again: int) -> None:
        """All keys are done and were compared again."""
        self.session.execute(_SQL["finish"], (compared_again, repair))


def _of(repair: int, batch: Batch, kinds: Mapping[Key, Kind]) -> dict[str, Any]:
    keys = Jsonb([{"key": key, "kind": kinds.get(key)} for key in batch.keys])
    return {"repair": repair, "schema": batch.table.schema, "table": batch.table.name, "keys": keys}


@contextmanager
def opened(service: Database) -> Iterator[Log]:
    """The log in the service database."""
    with service.connect("repair-log") as session:
        yield Log(session)
