"""DDL on the open side in mid-stream: the stream stops there, not before, and goes on after the revision."""

from __future__ import annotations

import pytest

from contexts.errors import SchemaMismatch
from contexts.model import TableName
from tests.stream.sides import Settings, Sides

WIDEN = "ALTER TABLE h.plain ALTER id TYPE bigint"


@pytest.fixture
def fresh(sides: Sides) -> Sides:
    sides.reset()
    sides.settings = Settings(batch_age_ms=60_000)  # only the loop's own commits
    return sides


def count(sides: Sides) -> int:
    row = sides.service.execute("SELECT count(*) FROM h.plain").fetchone()
    assert row is not None
    return int(row[0])


def test_what_came_before_the_change_is_applied_before_the_stop(fresh: Sides) -> None:
    assert fresh.write(("INSERT INTO h.plain VALUES (1, 'before')",), "COMMIT", carefully=False)
    assert fresh.alter(WIDEN)
    assert fresh.write(("INSERT INTO h.plain VALUES (5000000000, 'after')",), "COMMIT", carefully=False)
    with pytest.raises(SchemaMismatch, match="'id' is bigint on the open side and integer on the closed side"):
        fresh.catch_up()
    # A table that is widened already would not fit what came before.
    assert count(fresh) == 1
    fresh.service.execute(WIDEN)
    fresh.catch_up()
    assert count(fresh) == 2


def test_a_type_that_changed_after_rows_of_its_transaction(fresh: Sides) -> None:
    """Neither type of the closed side fits both rows of the transaction: it goes on only where somebody says so."""
    rows = ("(1, 'before')", "(5000000000, 'after')")
    statements = (f"INSERT INTO h.plain VALUES {rows[0]}", WIDEN, f"INSERT INTO h.plain VALUES {rows[1]}")
    assert fresh.write(statements, "COMMIT", carefully=False)
    with pytest.raises(SchemaMismatch, match=r"'id' is integer .* are from before|'id' is bigint on the open side"):
        fresh.catch_up()
    fresh.service.execute(WIDEN)
    with pytest.raises(SchemaMismatch, match=r"'id' is integer .* these rows are from before that change") as raised:
        fresh.catch_up()
    assert raised.value.next_step.startswith("carveout worker h --convert h.plain: ")
    assert count(fresh) == 0
    fresh.settings = Settings(converted=(TableName("h", "plain"),))
    fresh.catch_up()
    assert count(fresh) == 2
