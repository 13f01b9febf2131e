"""Cycles: what is copied when, and what is true between them."""

from __future__ import annotations

import random
import time

import pytest

from cdc import copy
from cdc.copy import Coverage, Strategy
from contexts.databases import Connection, Databases
from contexts.model import Context, Table, TableName
from tests.copy.helpers import Control, assert_same, both, context, cycle, execute, plan, rows, scalar, snapshot

T = TableName("public", "t")
BY_KEY = Table(name=T, copy_by="key")
FILLED = "CREATE TABLE t (id bigint PRIMARY KEY, v int, body text)"
FILL = "INSERT INTO t SELECT i, i, repeat('x', 300) FROM generate_series(1, {}) i"


def coverage(pair: Databases) -> dict[TableName, Coverage]:
    with pair.service.connect("test") as closed:
        return copy.coverage(closed, "wallet")


def test_partitions_keyless_and_empty_tables(pair: Databases, small_parts: None) -> None:
    both(
        pair,
        "CREATE TABLE p (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        "CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (MINVALUE) TO (1000);"
        "CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (1000) TO (MAXVALUE);"
        "CREATE TABLE keyless (v int); CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE base (id int)",
    )
    for database in (pair.shared, pair.service):
        execute(database, "CREATE TABLE child () INHERITS (base)")
    execute(pair.shared, "INSERT INTO p SELECT generate_series(1, 5000); INSERT INTO child VALUES (7)")
    execute(
        pair.shared, "INSERT INTO keyless SELECT i % 3 FROM generate_series(1, 5000) i; INSERT INTO base VALUES (1)"
    )
    result = cycle(pair, context("p", "keyless", "empty", "base"))
    assert result.finished
    assert result.rows == 10_001
    assert set(coverage(pair).values()) == {Coverage.FULL}
    assert_same(pair, "public.p", "public.p_1", "public.keyless")
    assert rows(pair.service, "public.base") == ["(1)"]
    assert rows(pair.service, "public.empty") == []
    assert cycle(pair, context("p", "keyless", "empty", "base")).parts_done == 0


def test_the_primary_key_comes_back_as_it_was(pair: Databases, small_parts: None) -> None:
    both(
        pair,
        'CREATE TABLE t (b int, id int, "V v" text, CONSTRAINT "Odd name" PRIMARY KEY (id, b) INCLUDE ("V v")'
        " DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TABLE kept (id int PRIMARY KEY WITH (fillfactor = 50)); CREATE TABLE used (id int PRIMARY KEY, v int);"
        "CREATE VIEW v AS SELECT id, v FROM used GROUP BY id",
    )
    keys = (
        "SELECT string_agg(conname || pg_get_constraintdef(oid) || conindid, ',' ORDER BY conname)"
        " FROM pg_constraint WHERE conrelid = '{}'::regclass"
    )
    columns = "SELECT array_agg(attnotnull ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'public.t'::regclass"
    named = keys.replace(" || conindid", "").format("public.t")
    before = [scalar(pair.service, query) for query in (named, columns)]
    kept = [scalar(pair.service, keys.format(table)) for table in ("public.kept", "public.used")]
    for table in ("t", "kept", "used"):
        execute(pair.shared, f"INSERT INTO {table} SELECT i, i FROM generate_series(1, 100) i".replace(
            "SELECT i, i", "SELECT i" if table == "kept" else "SELECT i, i"))  # fmt: skip
    assert cycle(pair, context("t", "kept", "used")).finished
    assert [scalar(pair.service, query) for query in (named, columns)] == before
    assert [scalar(pair.service, keys.format(table)) for table in ("public.kept", "public.used")] == kept
    assert scalar(pair.service, "SELECT count(*) FROM carveout.copy_primary_key") == 0
    assert_same(pair, "public.t", "public.kept", "public.used")


def test_a_table_by_ctid_begins_again_in_the_next_cycle(pair: Databases, small_parts: None) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(2000))
    stopping = Control(stop=lambda progress: progress.parts_done >= 2)
    first = cycle(pair, context("t", copy_workers=1), stopping)
    assert not first.finished
    assert 2 <= first.parts_done < len(plan(pair, context("t")))
    assert coverage(pair) == {T: Coverage.NONE}
    execute(pair.shared, "CLUSTER t USING t_pkey")
    execute(pair.shared, "DELETE FROM t WHERE id % 3 = 0; UPDATE t SET v = -v WHERE id % 10 = 0")
    assert cycle(pair, context("t")).finished
    assert coverage(pair) == {T: Coverage.FULL}
    assert_same(pair, "public.t")


def test_a_table_that_others_refer_to_is_emptied_all_the_same(pair: Databases, small_parts: None) -> None:
    both(pair, FILLED)
    execute(pair.service, "CREATE TABLE r (id bigint REFERENCES t)")
    execute(pair.shared, FILL.format(2000))
    assert not cycle(
        pair, context("t", copy_workers=1), Control(stop=lambda progress: progress.parts_done >= 1)
    ).finished
    assert cycle(pair, context("t")).finished
    assert_same(pair, "public.t")


def test_key_ranges_go_on_over_cycles_with_writes_in_between(pair: Databases, small_parts: None) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(900))
    chance = random.Random(5)
    results = []
    with pair.shared.connect("test") as open_, pair.service.connect("test") as closed:
        for _ in range(60):
            results.append(cycle(pair, context(BY_KEY, copy_workers=2), deadline_s=0.0))
            if results[-1].finished:
                break
            assert coverage(pair) == {T: Coverage.PARTIAL}
            for _ in range(30):
                _write(open_, closed, chance)
    assert results[-1].finished
    assert [result.parts_done for result in results] == [1] * len(results)
    assert [result.cycle for result in results] == sorted({result.cycle for result in results})
    assert len(results) > 5
    assert_same(pair, "public.t")
    assert coverage(pair) == {T: Coverage.FULL}


def _write(open_: Connection, closed: Connection, chance: random.Random) -> None:
    """One change on the open side, and on the closed one what the applier does with it between cycles."""
    key, other = chance.randint(-50, 1000), chance.randint(-1500, 2500)
    match chance.choice(["insert", "update", "delete", "move"]):
        case "insert":
            row = open_.execute(
                "INSERT INTO public.t VALUES (%s, 0, 'new') ON CONFLICT DO NOTHING RETURNING id", (key,)
            ).fetchone()
            if row:
                closed.execute(
                    "INSERT INTO public.t VALUES (%s, 0, 'new') ON CONFLICT (id) DO UPDATE SET v = 0", (key,)
                )
        case "update":
            for conn in (open_, closed):
                conn.execute("UPDATE public.t SET v = v + 1 WHERE id = %s", (key,))
        case "delete":
            for conn in (open_, closed):
                conn.execute("DELETE FROM public.t WHERE id = %s", (key,))
        case _:
            query = "UPDATE public.t SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM public.t WHERE id = %s)"
            if open_.execute(query, (other, key, other)).rowcount:
                closed.execute("DELETE FROM public.t WHERE id = %s", (other,))
                if not closed.execute("UPDATE public.t SET id = %s WHERE id = %s", (other, key)).rowcount:
                    closed.execute(
                        "INSERT INTO carveout.copy_key VALUES ('wallet', 'public', 't', ARRAY[%s::text])"
                        " ON CONFLICT DO NOTHING",
                        (other,),
                    )


def test_single_rows_are_copied_again_and_forgotten(pair: Databases, small_parts: None) -> None:
    table = 'CREATE TABLE t (a int, "b b" text COLLATE "C", v int, PRIMARY KEY ("b b", a))'
    both(pair, table)
    execute(pair.shared, "INSERT INTO t SELECT i, 'k''' || i, i FROM generate_series(1, 1500) i")
    assert cycle(pair, context(BY_KEY)).finished
    execute(pair.service, "UPDATE t SET v = 0; DELETE FROM t WHERE a = 7")
    execute(pair.shared, "DELETE FROM t WHERE a = 8")
    execute(
        pair.service,
        "INSERT INTO carveout.copy_key SELECT 'wallet', 'public', 't', ARRAY['k''' || i, i::text]"
        " FROM generate_series(1, 1500) i",
    )
    assert coverage(pair) == {T: Coverage.PARTIAL}
    result = cycle(pair, context(BY_KEY))
    assert (result.finished, result.rows, result.parts_done) == (True, 1499, 0)
    assert scalar(pair.service, "SELECT count(*) FROM carveout.copy_key") == 0
    assert_same(pair, "public.t")


def test_the_deadline_ends_the_cycle_but_not_its_first_table(pair: Databases, small_parts: None) -> None:
    both(pair, FILLED + "; CREATE TABLE small (LIKE t INCLUDING ALL)")
    execute(pair.shared, FILL.format(2000) + "; INSERT INTO small SELECT * FROM t LIMIT 300")
    first = cycle(pair, context("t", "small"), deadline_s=0.0)
    assert not first.finished
    assert coverage(pair) == {T: Coverage.FULL, TableName("public", "small"): Coverage.NONE}
    execute(pair.service, "UPDATE t SET v = 0 WHERE id = 1")  # a finished table is left alone from now on
    assert cycle(pair, context("t", "small"), deadline_s=0.0).finished
    assert_same(pair, "public.small")
    assert scalar(pair.service, "SELECT v FROM public.t WHERE id = 1") == 0


@pytest.mark.parametrize("by", [Strategy.CTID, Strategy.KEY])
def test_a_stop_takes_less_than_two_seconds_whatever_a_process_waits_for(pair: Databases, by: Strategy) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(500))
    moved = context(Table(name=T, copy_by=by.value))
    asked: list[float] = []

    def stop(progress: copy.CopyProgress) -> bool:
        if progress.running and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    with pair.service.connect("test", autocommit=False) as lock:
        lock.execute("LOCK TABLE public.t IN SHARE MODE")  # the target takes no row
        assert not cycle(pair, moved, Control(stop=stop)).finished
        assert time.monotonic() - asked[0] < 2.0
    assert scalar(pair.service, "SELECT count(*) FROM public.t") == 0
    assert cycle(pair, moved).finished
    assert_same(pair, "public.t")


def test_a_pause_starts_nothing_and_says_why(pair: Databases) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(500))
    control = Control(paused=lambda: "12 active sessions" if len(control.seen) < 8 else None)
    assert cycle(pair, context("t"), control).finished
    paused = [progress for progress in control.seen if progress.paused]
    assert paused
    assert all(progress.running == () and progress.parts_done == 0 for progress in paused)
    assert control.imported == 1


def test_progress_counts_up_to_the_whole(pair: Databases, small_parts: None) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(3000))
    control = Control()
    assert cycle(pair, context("t"), control).finished
    first, last = control.seen[0], control.seen[-1]
    assert first.rows == first.estimated_bytes_done == first.parts_done == 0
    assert first.eta_s is None
    assert last.rows == 3000
    assert last.parts_done == last.parts_total > 5
    assert last.estimated_bytes_done == last.estimated_bytes_total
    assert (last.eta_s, last.running) == (0.0, ())
    done = [progress.estimated_bytes_done for progress in control.seen]
    assert done == sorted(done)


def test_a_table_rewritten_after_the_snapshot_is_not_copied_as_empty(pair: Databases) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(100))
    moved = context("t")
    for rewrite in ("ALTER TABLE t ALTER v TYPE bigint", "TRUNCATE t"):
        plan(pair, moved)
        with snapshot(pair.shared) as exported:
            execute(pair.shared, rewrite)
            with pytest.raises(copy.SnapshotLost, match=r"rewritten or truncated after the snapshot: public\.t"):
                _run(pair, moved, exported)
    execute(pair.shared, "INSERT INTO t VALUES (1, 2, 'x')")
    assert cycle(pair, moved).finished
    assert_same(pair, "public.t")


def test_a_snapshot_that_is_gone_is_named(pair: Databases) -> None:
    both(pair, FILLED)
    plan(pair, context("t"))
    with snapshot(pair.shared) as exported:
        pass
    with pytest.raises(copy.SnapshotLost, match="shared database"):
        _run(pair, context("t"), exported)


def test_all_parts_see_one_snapshot_and_nothing_later(pair: Databases, small_parts: None) -> None:
    both(pair, FILLED)
    execute(pair.shared, FILL.format(2000))
    there = rows(pair.shared, "public.t")
    plan(pair, context("t"))
    with snapshot(pair.shared) as exported:
        execute(pair.shared, "UPDATE t SET v = 0; DELETE FROM t WHERE id % 2 = 0; INSERT INTO t VALUES (-5)")
        assert _run(pair, context("t"), exported).finished
    assert rows(pair.service, "public.t") == there


def _run(pair: Databases, moved: Context, exported: str) -> copy.CycleResult:
    return copy.run_cycle(pair.shared, pair.service, moved, snapshot=exported, deadline_s=60, control=Control())
