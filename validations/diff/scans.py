"""A segment by hash: one sum over a scan of the table, then buckets where it differs, then their rows.

For keys whose index order is not shared by both servers or does not follow the table, and for tables without key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from contexts.catalog import Table
from contexts.databases import Connection
from validations.diff import rowhash, rows
from validations.diff.model import Difference, DiffOptions, Kind, Method, Share
from validations.diff.sessions import Pair, Query, Rows
from validations.diff.subject import Subject

_ROWS_PER_BUCKET = 256
_MOST_BUCKETS = 1 << 16
_FETCH = 5_000
_SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True)
class ScanComparison:
    """Compares one table in whole scans."""

    pair: Pair
    subject: Subject
    options: DiffOptions

    def segment(self, extent: Share) -> tuple[int, int, Iterator[Difference]]:
        """The rows of both sides and, lazily, the differences."""
        self.pair.seqscan(True)
        ours, theirs = (side[0] for side in self._ask("share_sum", extent))
        found = self._narrow(extent, max(ours[0], theirs[0])) if ours != theirs else iter(())
        return ours[0], theirs[0], found

    def _narrow(self, share: Share, count: int) -> Iterator[Difference]:
        buckets = min(_MOST_BUCKETS, 1 << (count // _ROWS_PER_BUCKET).bit_length())
        bucket = self.subject.bucket(buckets)
        sums = self._ask("bucket_sums", share, bucket=bucket)
        ours, theirs = _by_bucket(sums[0]), _by_bucket(sums[1])
        differing = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        if self.subject.method is Method.BAG:
            yield from self._bag(share, bucket, differing)
        else:
            found = self._keyed(share, bucket, differing)
            yield from rows.named(self.pair, self.subject, found, values=self.options.show_values)

    def _keyed(self, share: Share, bucket: sql.Composable, differing: list[int]) -> Iterator[Difference]:
        for ours, theirs in self._buckets("bucket_rows", share, bucket, differing):
            yield from rows.compare(ours, theirs)

    def _bag(self, share: Share, bucket: sql.Composable, differing: list[int]) -> Iterator[Difference]:
        shown = _SHOWN_ROWS if self.options.show_values else 0
        for ours, theirs in self._buckets("bag_rows", share, bucket, differing):
            found = _surplus(ours, theirs)
            yield from self._with_text(found[:shown])
            yield from found[shown:]
            shown = max(0, shown - len(found))

    def _with_text(self, found: list[Difference]) -> Iterator[Difference]:
        """Bag differences with the text of their row, which a scan of the table looks for."""
        if not found:
            return
        hashes = [_to_hash(d.key[0]) for d in found]
        text = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(rowhash.column(p.name) for p in self.subject.pairs))

        def query(table: Table) -> Query:
            return self.subject.statement("bag_texts", table, row_text=text), {"hashes": hashes}

        on_open, on_closed = self.pair.ask(self.subject, query)
        ours, theirs = _texts(on_open), _texts(on_closed)
        for difference, row_hash in zip(found, hashes, strict=True):
            yield replace(
                difference, open_values=ours.get(row_hash, (None,)), closed_values=theirs.get(row_hash, (None,))
            )

    def _ask(self, statement: str, share: Share, **parts: sql.Composable) -> tuple[Rows, Rows]:
        condition = self.subject.share(share)
        return self.pair.ask(
            self.subject,
            lambda table: (self.subject.statement(statement, table, share=condition, **parts), {}),
        )

    def _buckets(
        self, statement: str, share: Share, bucket: sql.Composable, differing: list[int]
    ) -> Iterator[tuple[Rows, Rows]]:
        """The rows of each bucket on both sides, streamed: any number of them may differ."""
        condition, parameters = self.subject.share(share), {"buckets": differing}

        def stream(session: Connection, table: Table) -> _Stream:
            return _Stream(
                session, self.subject.statement(statement, table, share=condition, bucket=bucket), parameters
            )

        streams = self.pair.both(
            lambda: stream(self.pair.open, self.subject.open), lambda: stream(self.pair.closed, self.subject.closed)
        )
        with closing(streams[0]) as ours, closing(streams[1]) as theirs:
            for number in differing:
                yield ours.take(number), theirs.take(number)


class _Stream:
    """Rows of a server-side cursor in the order of their bucket, which is their first column."""

    def __init__(self, session: Connection, query: sql.Composed, parameters: dict[str, Any]) -> None:
        self._cursor = session.cursor("carveout_diff")
        self._cursor.execute(query, parameters)
        self._rows: Rows = self._cursor.fetchmany(_FETCH)
        self._next = 0

    def take(self, bucket: int) -> Rows:
        """The rows of one bucket, without their first column; buckets are asked for in order."""
        found: Rows = []
        while self._next < len(self._rows) and self._rows[self._next][0] == bucket:
            found.append(self._rows[self._next][1:])
            self._next += 1
            if self._next == len(self._rows):
                self._rows, self._next = self._cursor.fetchmany(_FETCH), 0
        return found

    def close(self) -> None:
        """Free the server-side cursor."""
        self._cursor.close()


def _by_bucket(sums: Rows) -> dict[int, tuple[Any, ...]]:
    return {bucket: tuple(found) for bucket, *found in sums}


def _texts(found: Rows) -> dict[int, tuple[str | None, ...]]:
    return {row_hash: (text,) for row_hash, text in found}


def _surplus(ours: Rows, theirs: Rows) -> list[Difference]:
    counts: Counter[int] = Counter(dict(ours))
    counts.subtract(dict(theirs))
    return [
        Difference(
            (_to_text(row_hash),), Kind.MISSING_ON_CLOSED if count > 0 else Kind.MISSING_ON_OPEN, count=abs(count)
        )
        for row_hash, count in sorted(counts.items())
        if count
    ]


def _to_text(row_hash: int) -> str:
    return f"{row_hash & 0xFFFFFFFFFFFFFFFF:016x}"


def _to_hash(text: str) -> int:
    value = int(text, 16)
    return value - (1 << 64) if value >> 63 else value
