"""Which tables are compared how, and where their segments begin and end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from contexts import sqlfiles
from contexts.catalog import Table
from contexts.databases import Connection
from contexts.errors import RefusedError
from contexts.model import TableName
from validations.diff.model import DiffOptions, Key, Method, Range, Ranges, Segment, Share
from validations.diff.rowhash import ColumnPair, RowHash
from validations.diff.subject import Subject, orders_alike

_SQL = sqlfiles.load("validations.diff", "diff.sql")
_OLDEST = 140000  # hash_record_extended
_MOST_CUTS = 5_000
_SCATTERED = 0.5  # below this correlation of key and place, a key range reads pages all over the table
_SCAN_FREELY = 64 * 1024 * 1024  # bytes that are read again and again from memory
_UUID = 2950

Tables = Mapping[TableName, Table]


@dataclass(frozen=True, slots=True)
class Server:
    """What the hash and the order of keys depend on."""

    version: int
    encoding: str
    byte_order: bool
    samples: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class TablePlan:
    """How one table is compared; a table with a ``problem`` has no segments."""

    table: TableName
    method: Method | None
    problem: str
    segments: tuple[Segment, ...] = ()


def row_hash(open_session: Connection, closed_session: Connection, seed: int) -> tuple[RowHash, bool]:
    """The row hash that both servers compute alike, and whether both order text by bytes.

    :raises RefusedError: the servers hash the same values differently.
    """
    sides = [_server(session) for session in (open_session, closed_session)]
    if min(server.version for server in sides) < _OLDEST:
        raise RefusedError("the row diff needs PostgreSQL 14 or later on both sides", unchanged="nothing was compared")
    if sides[0].samples != sides[1].samples:  # servers of different byte order
        raise RefusedError("the two servers hash the same values differently", unchanged="nothing was compared")
    recode = sides[0].encoding != sides[1].encoding
    return RowHash(seed, recode), all(server.byte_order for server in sides) and not recode


def subjects(
    open_tables: Tables, closed_tables: Tables, names: Iterable[TableName], hashing: RowHash
) -> tuple[dict[TableName, Subject], dict[TableName, str]]:
    """The tables that can be compared, and the others with the reason."""
    found: dict[TableName, Subject] = {}
    problems: dict[TableName, str] = {}
    for name in names:
        one, other = open_tables.get(name), closed_tables.get(name)
        if one and other and not (problem := _mismatch(one, other)):
            found[name] = _subject(one, other, hashing)
        elif one and other:
            problems[name] = problem
        else:
            where = "both sides" if not one and not other else "the closed side" if one else "the open side"
            problems[name] = f"the table is missing on {where}"
    return found, problems


def compared_names(
    open_session: Connection, closed_session: Connection, open_tables: Tables, closed_tables: Tables
) -> list[TableName]:
    """What to compare: plain tables, partitions where both sides have the same, else the partitioned table."""
    names = dict.fromkeys([*open_tables, *closed_tables])
    for name in list(names):
        parts = [
            _partitions(session, tables.get(name))
            for session, tables in ((open_session, open_tables), (closed_session, closed_tables))
        ]
        if name not in names or not any(parts):
            continue
        for dropped in [name] if parts[0] == parts[1] else parts[0] | parts[1]:
            names.pop(dropped, None)
    return list(names)


def plan(session: Connection, subject: Subject, options: DiffOptions, *, byte_order: bool) -> TablePlan:
    """Divide a table into segments, on the open side and outside any snapshot: only speed depends on the cuts."""
    rows = _estimate(subject.open)
    if not _by_ranges(session, subject, byte_order):
        of = 1 << (rows // options.scan_rows).bit_length()
        shares = tuple(Segment(subject.name, number, Share(number, of)) for number in range(of))
        return TablePlan(subject.name, subject.method, "", shares)
    cuts = _cuts(session, subject, rows, options)
    return TablePlan(subject.name, Method.RANGES, "", tuple(_segments(subject.name, cuts, options.ranges_per_segment)))


def cuts_within(session: Connection, subject: Subject, table: Table, bounds: Range, step: int) -> list[Key]:
    """Every ``step``-th key of a range, without its first."""
    query = subject.statement("cuts_by_rank", table, condition=subject.within(table, bounds))
    return [tuple(key) for (key,) in session.execute(query, {"step": step})]


def _segments(table: TableName, cuts: list[Key], size: int) -> Iterable[Segment]:
    ends = [None, *cuts[size - 1 :: size], None]
    for number, (lower, upper) in enumerate(pairwise(ends)):
        inner = cuts[number * size : number * size + size - 1]
        yield Segment(table, number, Ranges(lower, upper, tuple(inner)))


def _cuts(session: Connection, subject: Subject, rows: int, options: DiffOptions) -> list[Key]:
    row = session.execute(_SQL["pages"], (subject.open.oid,)).fetchone()
    pages = row[0] if row else 0
    wanted = min(rows // options.range_rows, _MOST_CUTS)
    if pages < 4 * wanted or wanted < options.ranges_per_segment:
        return cuts_within(session, subject, subject.open, Range(None, None), options.range_rows)
    # Two tuples of evenly spaced pages: exact cuts would read the whole index first.
    query = subject.statement("cuts_by_page", subject.open)
    sampled = {"pages": pages, "samples": 4 * wanted, "parts": wanted}
    return [tuple(key) for (key,) in session.execute(query, sampled)]


def _estimate(table: Table) -> int:
    """Rows by the last ANALYZE, or by the size where there was none or the table has grown beyond it."""
    known = table.estimated_rows if table.estimated_rows > 0 else table.bytes // 100
    return max(known, table.bytes // 2_000)


def _by_ranges(session: Connection, subject: Subject, byte_order: bool) -> bool:
    one, other = subject.open, subject.closed
    if not orders_alike(subject.key, byte_order=byte_order) or "p" in (one.kind, other.kind):
        return False
    if not one.primary_key or one.primary_key != other.primary_key:
        return False
    return one.bytes < _SCAN_FREELY or _correlation(session, subject) >= _SCATTERED


def _correlation(session: Connection, subject: Subject) -> float:
    first = subject.key[0]
    row = session.execute(_SQL["correlation"], (*subject.name, first.name)).fetchone()
    if row is None or row[0] is None:  # never analysed: only random keys are likely to be scattered
        return 0.0 if first.open.base_type_oid == _UUID else 1.0
    return abs(float(row[0]))


def _server(session: Connection) -> Server:
    version, encoding, byte_order = session.execute(_SQL["server"]).fetchall()[0]
    samples = session.execute(_SQL["samples"]).fetchall()[0] if version >= _OLDEST else ()
    return Server(version, encoding, byte_order, samples)


def _mismatch(one: Table, other: Table) -> str:
    ours, theirs = ({column.name for column in table.columns} for table in (one, other))
    parts = [
        f"columns only on the {side} side: {', '.join(sorted(names))}"
        for side, names in (("open", ours - theirs), ("closed", theirs - ours))
        if names
    ]
    return "; ".join(parts) or ("" if ours else "the table has no columns")


def _subject(one: Table, other: Table, hashing: RowHash) -> Subject:
    pairs = {column.name: ColumnPair(column.name, column, other.column(column.name)) for column in one.columns}
    key = one.primary_key or (one.identity_key if one.replica_identity == "i" else ())
    return Subject(one, other, tuple(pairs.values()), tuple(pairs[name] for name in key), hashing)


def _partitions(session: Connection, root: Table | None) -> set[TableName]:
    if root is None or root.kind != "p":
        return set()
    return {TableName(*row) for row in session.execute(_SQL["partitions"], (root.oid,))}
