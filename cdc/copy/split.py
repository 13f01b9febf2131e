"""Cuts tables into parts whose ranges meet without gap or overlap; the first and the last are open."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from psycopg import postgres, sql

from cdc.copy.model import Bound
from contexts import sqlfiles
from contexts.catalog import Column, Table
from contexts.databases import Connection

MIN_PART_BYTES = 8 << 20
#: Pages that a sample for key bounds reads at least; one page a part is the least that can tell parts apart.
_SAMPLE_PAGES = 300
_SAMPLE_PAGES_PER_PART = 3
#: Types that sort alike on every server.
_ORDERED = frozenset(
    postgres.types[name].oid
    for name in ("int2", "int4", "int8", "uuid", "date", "timestamp", "timestamptz", "numeric", "bytea")
)
#: Types that do so where they compare bytes.
_ORDERED_UNDER_C = frozenset(postgres.types[name].oid for name in ("text", "varchar", "bpchar"))
_C_COLLATIONS = frozenset({"pg_catalog.C", "pg_catalog.POSIX", "pg_catalog.ucs_basic"})
_SQL = sqlfiles.load("cdc.copy", "plan.sql")
Range = tuple[Bound | None, Bound | None]


def part_bytes(total: int, workers: int, limit: int) -> int:
    """The size of a part: small enough that all workers end at about the same time, at most ``limit``."""
    return max(min(total // (4 * workers), limit), min(MIN_PART_BYTES, limit))


def ranges(bounds: Sequence[Bound]) -> list[Range]:
    """The ranges between sorted bounds, and the open ones outside of them."""
    return list(itertools.pairwise([None, *bounds, None]))


def ctid_bounds(pages: int, parts: int) -> list[Bound]:
    """Where to cut a table of ``pages`` into ``parts``, or into fewer, so that each has a page."""
    cuts = (pages * number // parts for number in range(1, parts))
    return [(f"({page},0)",) for page in dict.fromkeys(cuts) if page > 0]


def key_bounds(conn: Connection, table: Table, pages: int, parts: int) -> list[Bound]:
    """Where to cut a table by its primary key: quantiles of a sample of pages, so gaps do not matter."""
    if parts < 2 or pages == 0:
        return []
    wanted = max(_SAMPLE_PAGES, _SAMPLE_PAGES_PER_PART * parts)
    names = [sql.Identifier(f"k{number}") for number, _ in enumerate(table.primary_key)]
    key = [sql.Identifier(column) for column in table.primary_key]
    comma = sql.SQL(", ")
    query = _SQL["key_bounds"].format(
        names=comma.join(names),
        texts=comma.join(sql.SQL("{}::text AS {}").format(*pair) for pair in zip(key, names, strict=True)),
        key=comma.join(key),
        table=table.identifier(),
    )
    rows = conn.execute(query, {"buckets": parts, "percent": min(100.0, 100.0 * wanted / pages)}).fetchall()
    return [tuple(row) for row in rows[1:]]  # the first bucket begins at the open end


def sorts_alike(source: Table, target: Table) -> bool:
    """Whether both sides have the same primary key, and its order is the same on both."""
    return (
        bool(source.primary_key)
        and source.primary_key == target.primary_key
        and all(_ordered(source.column(name), target.column(name)) for name in source.primary_key)
    )


def _ordered(ours: Column, theirs: Column) -> bool:
    if ours.base_type_oid != theirs.base_type_oid:
        return False
    if ours.base_type_oid in _ORDERED_UNDER_C:
        return {ours.collation, theirs.collation} <= _C_COLLATIONS
    return ours.base_type_oid in _ORDERED
