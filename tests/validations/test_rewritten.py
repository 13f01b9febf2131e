"""A table that is truncated or rewritten after the snapshot looks empty there: neither a difference nor a proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contexts.databases import Databases
from contexts.model import Side
from tests.validations.support import Sides
from validations.barrier import Barrier
from validations.diff.model import DiffOptions, Verdict
from validations.diff.run import diff
from validations.invariants.model import Invariant, Kind, Limits
from validations.invariants.run import check
from validations.snapshots import Rewritten

ROWS = "SELECT i, i FROM generate_series(1, 9) i"


@pytest.fixture
def sides(pair: Databases) -> Sides:
    """A table without key, a small one, and one that is compared by key ranges."""
    made = Sides(pair, ("bag", "small", "t"))
    made.both(
        "CREATE TABLE bag (k int, n int)", "CREATE TABLE small (k int)", "CREATE TABLE t (k int PRIMARY KEY, n int)"
    )
    made.both(f"INSERT INTO bag {ROWS}", "INSERT INTO small VALUES (1)", f"INSERT INTO t {ROWS}")
    return made


@pytest.mark.parametrize("table", ["bag", "t"])
@pytest.mark.parametrize("side", Side)
def test_the_diff_takes_another_barrier_after_truncate(sides: Sides, side: Side, table: str) -> None:
    # As the stream does it: what one side truncates is empty on the other, too.
    assert _changed_after_the_first_barrier(sides, side, f"TRUNCATE {table}", f"DELETE FROM {table}") == (2, 10)


@pytest.mark.parametrize("statement", ["VACUUM FULL t", "ALTER TABLE t ALTER n TYPE int USING n + 0"])
def test_the_diff_takes_another_barrier_after_a_rewrite(sides: Sides, statement: str) -> None:
    assert _changed_after_the_first_barrier(sides, Side.SHARED, statement, "SELECT") == (2, 19)


def _changed_after_the_first_barrier(sides: Sides, side: Side, statement: str, on_other: str) -> tuple[int, int]:
    """How many barriers were taken, and how many rows compared."""
    made = 0

    @contextmanager
    def barriers() -> Iterator[Barrier]:
        nonlocal made
        made += 1
        with sides.barriers() as barrier:
            if made == 1:
                sides.on(side, statement)
                sides.on(side.other, on_other)
            yield barrier

    result = diff(barriers, sides.read(Side.SHARED), sides.read(Side.SERVICE), DiffOptions(), sides.store)
    assert result.verdict is Verdict.EQUAL
    return made, result.rows


def test_an_invariant_does_not_hold_over_a_table_that_only_looks_empty(sides: Sides) -> None:
    total = Invariant("total", "the total", "SELECT coalesce(sum(n), 0) FROM public.t", kind=Kind.NUMBER)
    with sides.barriers() as barrier:
        assert check(barrier, [total], Limits(10.0, 60.0)).passed
    with sides.barriers() as barrier:
        sides.both("TRUNCATE t")
        with pytest.raises(Rewritten, match=r"public\.t"):
            check(barrier, [total], Limits(10.0, 60.0))


def test_a_table_that_was_read_can_be_altered_while_the_barrier_lasts(sides: Sides) -> None:
    read: list[str] = []

    def truncate(_: object) -> None:
        if not read:
            read.append("bag")
            for side in Side:
                with sides.databases[side].connect("test", lock_timeout="2s") as conn:
                    conn.execute("TRUNCATE public.bag")

    result = sides.diff(options=DiffOptions(workers=1), progress=truncate)
    assert (read, result.verdict, sides.barriers.made) == (["bag"], Verdict.EQUAL, 1)
