"""Random transactions against the shapes, as SQL text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.stream.shapes import BY_NAME, Shape

WIDE_ROWS = 400
#: A message of somebody else's, small or large, and a marker of ours.
MESSAGES = (
    "SELECT pg_logical_emit_message(true, 'somebody', 'else''s')",
    "SELECT pg_logical_emit_message(true, 'somebody', repeat('m', 3000))",
    "WITH made AS (INSERT INTO h.marked DEFAULT VALUES RETURNING id)"
    " SELECT pg_logical_emit_message(true, 'carveout',"
    " json_build_object('context', 'h', 'kind', 'probe', 'id', id)::text) FROM made",
)


@dataclass(frozen=True)
class Block:
    """Statements within a savepoint."""

    statements: tuple[str, ...]
    is_rolled_back: bool


Transaction = tuple[str | Block, ...]


def _row(shape: Shape) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in shape.values.items()})


def _one_of_the_rows(shape: Shape) -> st.SearchStrategy[str]:
    return st.integers(0, 5).map(
        # Not in physical order: what vacuum does must not change what a history means.
        lambda n: (
            f" WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM {shape.table} AS r"
            f' ORDER BY r::text COLLATE "C" OFFSET {n} LIMIT 1)'
        )
    )


def _insert(shape: Shape, at_least: int = 1) -> st.SearchStrategy[str]:
    return st.lists(_row(shape), min_size=at_least, max_size=5).map(
        lambda rows: (
            f"INSERT INTO {shape.table} ({', '.join(shape.values)}) OVERRIDING SYSTEM VALUE VALUES "
            + ", ".join(f"({', '.join(row[name] for name in shape.values)})" for row in rows)
            # A deferrable key arbitrates nothing.
            + ("" if shape.name == "deferred" else " ON CONFLICT DO NOTHING")
        )
    )


def _update(shape: Shape) -> st.SearchStrategy[str]:
    columns = st.lists(st.sampled_from(list(shape.values)), min_size=1, max_size=3, unique=True)
    return st.builds(
        lambda names, row, where: (
            f"UPDATE {shape.table} SET {', '.join(f'{name} = {row[name]}' for name in names)}{where}"
        ),
        columns, _row(shape), st.one_of(*[_one_of_the_rows(shape)] * 5, st.just("")),
    )  # fmt: skip


def _shift(shape: Shape) -> st.SearchStrategy[str]:
    """Moves every key at once, or changes nothing."""
    column = next(iter(shape.values))
    if column not in ("id", "a"):
        return st.just(f"UPDATE {shape.table} SET {column} = {column}")
    return st.sampled_from([f"{column} + 1", f"-{column}", f"9 - {column}", column]).map(
        lambda value: f"UPDATE {shape.table} SET {column} = {value}"
    )


def _wide() -> st.SearchStrategy[str]:
    """More than the server decodes in memory."""
    return st.sampled_from(
        [
            f"INSERT INTO h.wide SELECT i, repeat('w', 300) FROM generate_series(1, {WIDE_ROWS}) i"
            " ON CONFLICT (id) DO UPDATE SET v = 'again' || excluded.v",
            "UPDATE h.wide SET v = v || md5(id::text)",
            "DELETE FROM h.wide WHERE id % 3 = 0",
            f"UPDATE h.wide SET id = id + 2 * {WIDE_ROWS} WHERE id % 2 = 0",
        ]
    )


def _statement(shape: Shape) -> st.SearchStrategy[str]:
    rare = [_shift(shape), st.sampled_from([f"TRUNCATE {shape.table}", f"DELETE FROM {shape.table}"])]
    if shape.name == "parted":
        rare.append(st.sampled_from(["TRUNCATE h.parted_b1", "TRUNCATE h.parted_b, h.plain", "DELETE FROM h.parted_a"]))
    if shape.name == "deferred":
        rare.append(st.just("UPDATE h.deferred SET id = CASE id WHEN 1 THEN 2 ELSE 1 END WHERE id IN (1, 2)"))
    delete = _one_of_the_rows(shape).map(lambda where: f"DELETE FROM {shape.table}{where}")
    often = (
        [_insert(shape)] * 8 + [_update(shape)] * 8 + [delete] * 3 + ([_wide()] * 12 if shape.name == "wide" else [])
    )
    return st.sampled_from([*often, st.one_of(rare)]).flatmap(lambda chosen: chosen)


def transactions(names: Sequence[str], *, messages: bool = False) -> st.SearchStrategy[Transaction]:
    """Transactions over some of the shapes; ``messages``: now and then with one among their statements."""
    rows = statement = st.one_of(*(_statement(BY_NAME[name]) for name in names))
    if messages:
        statement = st.integers(0, 15).flatmap(lambda n: rows if n else st.sampled_from(MESSAGES))
    block = st.builds(Block, st.lists(statement, min_size=1, max_size=4).map(tuple), st.booleans())
    return st.lists(st.one_of(statement, statement, statement, block), min_size=1, max_size=8).map(tuple)


def seeds(names: Sequence[str]) -> st.SearchStrategy[Transaction]:
    """A transaction that puts rows into each of the shapes."""
    return st.tuples(*(_insert(BY_NAME[name], 4) for name in names))
