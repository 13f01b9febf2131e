"""What is planned: every leaf once, sizes with TOAST, and nothing that could hurt."""

from __future__ import annotations

import pytest

from cdc import copy
from cdc.copy import Strategy, split
from cdc.copy.plan import ASSUMED_BYTES_PER_S
from contexts.databases import Databases
from contexts.errors import ConfigError, RefusedError
from contexts.model import Table, TableName
from tests.copy.helpers import both, context, execute, plan, scalar

LEAVES = """
CREATE TABLE p (id int, at date, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE p_old PARTITION OF p FOR VALUES FROM (MINVALUE) TO ('2020-01-01') PARTITION BY LIST (id);
CREATE TABLE p_old_1 PARTITION OF p_old FOR VALUES IN (1);
CREATE TABLE p_old_rest PARTITION OF p_old DEFAULT;
CREATE TABLE p_new PARTITION OF p FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
"""


def test_a_stored_plan_is_returned_as_it_is(pair: Databases, small_parts: None) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY, body text)")
    execute(pair.shared, "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 2000) i")
    first = plan(pair, context("t"))
    execute(pair.shared, "DELETE FROM t; INSERT INTO t SELECT generate_series(1, 9)")
    assert len(first) > 5
    assert plan(pair, context("t")) == first
    assert [part.number for part in first] == list(range(len(first)))


def test_leaf_partitions_are_tables_of_their_own_and_take_their_roots_strategy(pair: Databases) -> None:
    both(pair, LEAVES)
    wish = Table(name=TableName("public", "p"), copy_by="key")
    assert {(part.table.name, part.strategy) for part in plan(pair, context(wish))} == {
        ("p_old_1", Strategy.KEY), ("p_old_rest", Strategy.KEY), ("p_new", Strategy.KEY),
    }  # fmt: skip


def test_a_partition_that_appears_later_is_added_and_one_that_is_gone_forgotten(pair: Databases) -> None:
    both(pair, LEAVES)
    before = plan(pair, context("p"))
    for database in (pair.shared, pair.service):
        execute(database, "DROP TABLE p_old_1; CREATE TABLE p_old_2 PARTITION OF p_old FOR VALUES IN (2)")
    added = {part.table.name for part in plan(pair, context("p"))}
    assert added == {part.table.name for part in before} - {"p_old_1"} | {"p_old_2"}


def test_toast_counts_and_statistics_do_not(pair: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "MIN_PART_BYTES", 256 * 1024)
    both(
        pair, "CREATE TABLE t (id int PRIMARY KEY, pad text, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL"
    )
    execute(pair.shared, "ANALYZE t")
    execute(pair.shared, "INSERT INTO t SELECT i, repeat('p', 900), repeat('x', 40000) FROM generate_series(1, 100) i")
    parts = plan(pair, context("t"))
    assert scalar(pair.shared, "SELECT pg_relation_size('public.t')") == 13 * 8192
    assert len(parts) >= 8
    assert sum(part.estimated_bytes for part in parts) > 4_000_000


def test_auto_takes_the_key_only_where_one_snapshot_would_get_old(pair: Databases) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY, b text); CREATE TABLE u (id text PRIMARY KEY)")
    for table in ("t", "u"):
        execute(pair.shared, f"INSERT INTO {table} SELECT i FROM generate_series(1, 2000) i")
    size = scalar(pair.shared, "SELECT pg_table_size('public.t')")
    assert isinstance(size, int)
    seconds = 2 * size / ASSUMED_BYTES_PER_S
    assert plan(pair, context("t", "u", max_snapshot_age_s=seconds))[0].strategy is Strategy.CTID
    execute(pair.service, "DELETE FROM carveout.copy_part")
    tiny = {part.table.name: part.strategy for part in plan(pair, context("t", "u", max_snapshot_age_s=seconds / 9))}
    assert tiny == {"t": Strategy.KEY, "u": Strategy.CTID}


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (id text PRIMARY KEY)",
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE t (id int PRIMARY KEY, u int NOT NULL UNIQUE);ALTER TABLE t REPLICA IDENTITY USING INDEX t_u_key",
    ],
)
def test_a_key_that_will_not_do_is_refused_where_it_is_asked_for(pair: Databases, ddl: str) -> None:
    both(pair, ddl)
    with pytest.raises(ConfigError, match=r'public\.t: copy_by = "key"'):
        plan(pair, context(Table(name=TableName("public", "t"), copy_by="key")))


def test_rows_that_the_copy_did_not_write_are_never_touched(pair: Databases) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY)")
    execute(pair.service, "INSERT INTO t VALUES (1)")
    with pytest.raises(RefusedError, match=r"public\.t on the closed side holds rows"):
        plan(pair, context("t"))
    assert scalar(pair.service, "SELECT count(*) FROM public.t") == 1


def test_a_table_that_does_not_exist_is_named(pair: Databases) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(ConfigError, match=r"not on the open side: public\.nowhere"):
        plan(pair, context("t", "nowhere"))


def test_reset_forgets_the_plan_and_empties_its_tables_only(pair: Databases, small_parts: None) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)")
    execute(pair.service, "INSERT INTO other VALUES (1)")
    plan(pair, context("t"))
    execute(pair.service, "INSERT INTO t VALUES (1)")
    with pair.service.connect("test") as closed:
        copy.reset(closed, "wallet")
        assert copy.read_parts(closed, "wallet") == []
        assert copy.coverage(closed, "wallet") == {}
    assert scalar(pair.service, "SELECT (SELECT count(*) FROM public.t) || ' ' || count(*) FROM public.other") == "0 1"
