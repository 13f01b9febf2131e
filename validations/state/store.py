"""The store of verifications in the service database."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from cdc.lsn import format_lsn, parse_lsn
from contexts import sqlfiles
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Side, TableName
from validations.diff.delta import KeysResult
from validations.diff.model import (
    Difference,
    DiffResult,
    Extent,
    Key,
    Kind,
    Method,
    Ranges,
    Segment,
    Share,
    TableResult,
)
from validations.diff.plan import TablePlan
from validations.diff.store import Seen

_SQL = sqlfiles.load("validations.state", "store.sql")
_FETCH = 5_000


class UnknownVerification(CarveoutError):
    """No verification of this context has that number."""


@dataclass(frozen=True, slots=True)
class Verifications:
    """The verifications of one context."""

    #: The service database: it holds the results whichever side is open.
    database: Database
    context: str

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second verification of the context out, until left or until this process dies.

        :raises RefusedError: one is running.
        """
        with self._connect() as session:
            asked = "SELECT pg_try_advisory_lock(hashtext('carveout.verification'), hashtext(%s))"
            if session.execute(asked, (self.context,)).fetchall() != [(True,)]:
                raise RefusedError(
                    f"context {self.context!r}: another verification is running",
                    unchanged="nothing was compared",
                    next_step=f"carveout status {self.context}",
                )
            yield

    def is_running(self) -> bool:
        """Whether somebody holds :meth:`lock`."""
        with self._connect() as session:
            return session.execute(_SQL["is_running"], (self.context,)).fetchall() != []

    def unfinished(self, open_side: Side, fingerprint: str, tables: Sequence[TableName]) -> int | None:
        """The newest verification of exactly these tables that was not finished."""
        wanted = {
            "context": self.context,
            "open_side": open_side,
            "fingerprint": fingerprint,
            "tables": [f"{t.schema} {t.name}" for t in tables],
        }
        with self._connect() as session:
            row = session.execute(_SQL["unfinished"], wanted).fetchone()
        return row[0] if row else None

    def begin(self, open_side: Side, fingerprint: str, plans: Sequence[TablePlan], extent: Extent = Extent.FULL) -> int:
        """Store a new verification with all its segments; older unfinished ones of its extent end as incomplete."""
        with self._connect() as session, session.transaction(), session.cursor() as cursor:
            cursor.execute(_SQL["supersede"], (self.context, extent))
            found = self._insert(session, extent, open_side, fingerprint)
            cursor.executemany(_SQL["add_table"], [(found, *p.table, p.method, p.problem) for p in plans])
            cursor.executemany(
                _SQL["add_segment"],
                [(found, *s.table, s.number, Jsonb(_to_json(s.extent))) for p in plans for s in p.segments],
            )
        return found

    def pending(self, verification: int) -> list[Segment]:
        """The segments that are still to be compared."""
        with self._connect() as session:
            rows = session.execute(_SQL["pending"], (verification,)).fetchall()
        return [Segment(TableName(schema, name), number, _from_json(extent)) for schema, name, number, extent in rows]

    @contextmanager
    def writer(self, verification: int) -> Iterator[SegmentWriter]:
        """A writer with a session of its own."""
        with self._connect() as session:
            yield SegmentWriter(session, verification)

    def finish(self, verification: int) -> None:
        """Store the verdict."""
        with self._connect() as session, session.transaction():
            _finish(session, self._result(session, verification))

    def result(self, verification: int) -> DiffResult:
        """What is known of a verification so far.

        :raises UnknownVerification: there is none of that number.
        """
        with self._connect() as session:
            return self._result(session, verification)

    def latest(self, *extents: Extent, finished: bool = False) -> DiffResult | None:
        """The newest verification of these extents (full where none is named), or the newest that is finished."""
        with self._connect() as session:
            row = session.execute(_SQL["latest"], (self.context, list(extents or (Extent.FULL,)), finished)).fetchone()
            return self._result(session, row[0]) if row else None

    def found_since(self, verification: int) -> int:
        """How many differences later comparisons of whatever extent have found, finished or not."""
        with self._connect() as session:
            found: int = session.execute(_SQL["found_since"], (self.context, verification)).fetchall()[0][0]
        return found

    def differences(self, verification: int) -> Iterator[tuple[TableName, Difference]]:
        """Every difference that was found, streamed."""
        with (
            self.database.connect("verification", autocommit=False) as session,
            session.cursor("carveout_differences") as cursor,
        ):
            cursor.itersize = _FETCH
            cursor.execute(_SQL["differences"], (verification,))
            for schema, name, key, kind, columns, count, ours, theirs in cursor:
                yield (
                    TableName(schema, name),
                    Difference(tuple(key), Kind(kind), tuple(columns), count, _values(ours), _values(theirs)),
                )

    def save_keys(
        self, open_side: Side, fingerprint: str, lsn: int, at: dt.datetime, results: Sequence[KeysResult]
    ) -> int:
        """Store the comparisons of keys, each table as one segment, as a finished verification of kind delta."""
        with self._connect() as session, session.transaction():
            found = self._insert(session, Extent.DELTA, open_side, fingerprint)
            writer = SegmentWriter(session, found)
            for result in results:
                problem = f"only {result.compared} of {result.keys} keys were compared in time"
                late = result.compared < result.keys
                method = None if late else Method.RANGES
                session.execute(_SQL["add_table"], (found, *result.table, method, problem if late else ""))
                extent = Jsonb({"keys": result.compared})
                session.execute(_SQL["add_segment"], (found, *result.table, 0, extent))
                seen = Seen(lsn, at, result.rows_open, result.rows_closed)
                writer.write(Segment(result.table, 0, Share(0, 1)), seen, result.differences)
            _finish(session, self._result(session, found))
        return found

    def _insert(self, session: Connection, extent: Extent, open_side: Side, fingerprint: str) -> int:
        arguments = (self.context, extent, open_side, fingerprint)
        found: int = session.execute(_SQL["begin"], arguments).fetchall()[0][0]
        return found

    def _result(self, session: Connection, verification: int) -> DiffResult:
        row = session.execute(_SQL["verification"], (verification, self.context)).fetchone()
        if row is None:
            raise UnknownVerification(
                f"context {self.context!r}: there is no verification {verification}",
                next_step=f"carveout status {self.context}",
            )
        extent, open_side, started, finished, fingerprint, oldest, first, last = row
        tables = session.execute(_SQL["tables"], (verification,)).fetchall()
        return DiffResult(
            verification, Side(open_side), started, finished, oldest, first and parse_lsn(first),
            last and parse_lsn(last), fingerprint, tuple(map(_table_result, tables)), Extent(extent),
        )  # fmt: skip

    def _connect(self) -> Connection:
        return self.database.connect("verification")


@dataclass(frozen=True, slots=True)
class SegmentWriter:
    """Stores the segments that one worker compares."""

    session: Connection
    verification: int

    def write(self, segment: Segment, seen: Seen, differences: Iterable[Difference]) -> int:
        """Store a segment's result and all its differences in one transaction.

        :returns: how many rows differ.
        """
        counts: Counter[Kind] = Counter()
        place = (self.verification, *segment.table, segment.number)
        with self.session.transaction():
            with self.session.cursor() as cursor, cursor.copy(_SQL["add_differences"]) as copy:
                for d in differences:
                    counts[d.kind] += d.count
                    values = [v and list(v) for v in (d.open_values, d.closed_values)]
                    copy.write_row((*place, list(d.key), d.kind, list(d.columns), d.count, *values))
            found = [counts[kind] for kind in (Kind.MISSING_ON_CLOSED, Kind.MISSING_ON_OPEN, Kind.DIFFERENT)]
            rows = (seen.rows_open, seen.rows_closed)
            self.session.execute(_SQL["segment_done"], (format_lsn(seen.lsn), seen.at, *rows, *found, *place))
        return counts.total()


def _finish(session: Connection, result: DiffResult) -> None:
    span = [None if lsn is None else format_lsn(lsn) for lsn in (result.lsn_first, result.lsn_last)]
    values = (result.verdict, result.rows, result.differences, *span, result.verification)
    session.execute(_SQL["finish"], values)


def _table_result(row: tuple[Any, ...]) -> TableResult:
    schema, name, method, *rest = row
    return TableResult(TableName(schema, name), Method(method) if method else None, *rest)


def _values(stored: list[str | None] | None) -> tuple[str | None, ...] | None:
    return None if stored is None else tuple(stored)


def _to_json(extent: Ranges | Share) -> dict[str, Any]:
    match extent:
        case Ranges(lower, upper, cuts):
            return {"lower": lower, "upper": upper, "cuts": cuts}
        case Share(part, of):
            return {"part": part, "of": of}


def _from_json(stored: dict[str, Any]) -> Ranges | Share:
    if "of" in stored:
        return Share(stored["part"], stored["of"])
    return Ranges(_key(stored["lower"]), _key(stored["upper"]), tuple(map(tuple, stored["cuts"])))


def _key(stored: list[str] | None) -> Key | None:
    return None if stored is None else tuple(stored)
