"""Random histories through the real source, applier and stream: at every barrier both sides hold the same rows.

Without settings a short, fixed selection is played. ``CARVEOUT_HISTORIES`` plays so many random ones each way (about
five seconds each; give ``-o faulthandler_timeout=0``), and ``CARVEOUT_SHRINK`` looks for the shortest that fails.
"""

from __future__ import annotations

import os
import sys
from typing import LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from cdc.apply import collect, writer
from cdc.source import arriving
from tests.stream.shapes import BY_NAME
from tests.stream.sides import Settings, Sides, run
from tests.stream.statements import seeds, transactions

SHRINK = "CARVEOUT_SHRINK" in os.environ
HISTORIES = int(os.environ.get("CARVEOUT_HISTORIES", "0"))
WORKERS = st.builds(
    Settings,
    batch_rows=st.sampled_from([1, 3, 40, 50_000]),
    batch_mb=st.sampled_from([0.0005, 0.02, 16.0]),
    batch_age_ms=st.sampled_from([0, 100]),
    spool_bytes=st.sampled_from([1, 20_000, 1_000_000]),
    queue_bytes=st.sampled_from([1, 16_000_000]),
    is_deaf=st.booleans(),
    is_far=st.booleans(),
    is_watched=st.sampled_from([False, False, False, True]),
)
DEATHS = st.one_of(
    st.none(),
    st.none(),
    st.tuples(
        st.sampled_from(
            ["apply.rows_written", "apply.before_commit", "apply.after_commit", "apply.spooled", "arriving", "arriving"]
        ),
        st.integers(1, 4),
    ),
)


class History(RuleBasedStateMachine):
    """One application that writes, one worker that follows, and accidents.

    What rules there are does not depend on what the databases answer: that would confuse the search.
    """

    def __init__(self, sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.sides, self.monkeypatch = sides, monkeypatch
        self.tables: list[str] = []
        self.prepared: list[str] = []
        self.is_long_open = False
        self.changes = 0
        self.added: list[tuple[str, str]] = []
        sides.reset()

    @initialize(
        tables=st.lists(st.sampled_from(list(BY_NAME)), min_size=1, max_size=4, unique=True),
        tells=st.booleans(),
        worker=WORKERS,
        few=st.sampled_from([0, 0, 4, 1 << 30]),
        slice_=st.sampled_from([1, 5, 256]),
        part=st.sampled_from([1, 500, 64 * 1024]),
        data=st.data(),
    )
    def begin(
        self, tables: list[str], tells: bool, worker: Settings, few: int, slice_: int, part: int, data: st.DataObject
    ) -> None:
        self.tables, self.sides.settings = list(dict.fromkeys([*tables, "told"] if tells else tables)), worker
        self.monkeypatch.setattr(writer, "FEW", few)
        self.monkeypatch.setattr(collect, "_SLICE", slice_)
        self.monkeypatch.setattr(arriving, "_PART", part)
        self.sides.write(data.draw(seeds(self.tables)), "COMMIT", carefully=True)

    @rule(data=st.data(), carefully=st.booleans(), end=st.sampled_from(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))
    def write(self, data: st.DataObject, carefully: bool, end: str) -> None:
        self.sides.write(data.draw(transactions(self.tables, messages=True)), end, carefully=carefully)

    @rule(data=st.data())
    def write_a_lot(self, data: st.DataObject) -> None:
        for transaction in data.draw(st.lists(transactions(self.tables, messages=True), min_size=3, max_size=6)):
            self.sides.write(transaction, "COMMIT", carefully=True)

    @rule(data=st.data())
    def prepare(self, data: st.DataObject) -> None:
        transaction = data.draw(transactions(self.tables, messages=True))
        name = f"{self.sides.stream.epoch}.{self.changes}.{len(self.prepared)}"
        if len(self.prepared) < 2 and self.sides.write(transaction, f"PREPARE TRANSACTION '{name}'", carefully=True):
            self.prepared.append(name)

    @rule(verb=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
    def end_prepared(self, verb: str) -> None:
        if self.prepared:
            self.sides.shared.execute(f"{verb} PREPARED '{self.prepared.pop()}'".encode())
            self.sides.seen[f"prepared {verb}"] += 1

    @rule(data=st.data())
    def write_in_a_long_transaction(self, data: st.DataObject) -> None:
        if not self.is_long_open:
            self.sides.long.execute("BEGIN")
            self.is_long_open = True
        run(self.sides.long, data.draw(transactions(self.tables, messages=True)), carefully=True)

    @rule(verb=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
    def end_long_transaction(self, verb: LiteralString) -> None:
        if not self.is_long_open:
            return
        self.is_long_open = False
        self.sides.seen[f"long {verb}"] += 1
        try:
            self.sides.long.execute(verb)
        except psycopg.IntegrityError:  # a deferred key
            self.sides.long.execute("ROLLBACK")

    @rule(data=st.data(), is_closed_first=st.booleans())
    def add_a_column(self, data: st.DataObject, is_closed_first: bool) -> None:
        table = BY_NAME[data.draw(st.sampled_from(self.tables))].table
        self.changes += 1
        name = f"added_{self.changes}"
        default = data.draw(st.sampled_from(["", " DEFAULT 'ok'"]))
        add, drop = f"ALTER TABLE {table} ADD {name} h.mood{default}", f"ALTER TABLE {table} DROP {name}"
        if self._alter(add, drop, is_closed_first=is_closed_first):
            self.added.append((table, name))
            self.sides.write((f"UPDATE {table} SET {name} = 'sad'",), "COMMIT", carefully=False)

    @rule()
    def drop_a_column(self) -> None:
        if self.added:
            table, name = self.added[-1]
            if self._alter(f"ALTER TABLE {table} DROP {name}", "", is_closed_first=False):
                self.added.pop()

    @rule(is_closed_first=st.booleans())
    def add_a_partition(self, is_closed_first: bool) -> None:
        self.changes += 1
        key = f"p{self.changes}"
        add = f"CREATE TABLE h.parted_{key} PARTITION OF h.parted FOR VALUES IN ('{key}')"
        if self._alter(add, f"DROP TABLE h.parted_{key}", is_closed_first=is_closed_first):
            rows = f"INSERT INTO h.parted (id, k) VALUES (1, '{key}'), (2, '{key}')"
            self.sides.write((rows,), "COMMIT", carefully=True)

    def _alter(self, do: str, undo: str, *, is_closed_first: bool) -> bool:
        """Change both sides, in one order or the other."""
        if is_closed_first:
            self.sides.settle()
            self.sides.service.execute(do.encode())
        if not self.sides.alter(do):
            if is_closed_first:
                self.sides.service.execute(undo.encode())
            return False
        if not is_closed_first:
            self.sides.revisions.append(do)
        return True

    @rule(data=st.data())
    def widen_a_column(self, data: st.DataObject) -> None:
        shape = BY_NAME[data.draw(st.sampled_from(self.tables))]
        column = next(iter(shape.values))
        if column in ("id", "a") and shape.name != "parted":
            ddl = f"ALTER TABLE {shape.table} ALTER {column} TYPE bigint"
            if self.sides.alter(ddl):
                self.sides.revisions.append(ddl)

    @rule(data=st.data(), identity=st.sampled_from(["FULL", "DEFAULT"]))
    def change_the_identity(self, data: st.DataObject, identity: str) -> None:
        shape = BY_NAME[data.draw(st.sampled_from(self.tables))]
        if identity == "FULL" or shape.has_key:
            self.sides.alter(f"ALTER TABLE {shape.table} REPLICA IDENTITY {identity}")

    @rule(
        data=st.data(),
        death=DEATHS,
        polls=st.one_of(st.none(), st.integers(0, 9)),
        cut=st.one_of(st.none(), st.integers(0, 3)),
    )
    def follow(
        self, data: st.DataObject, death: tuple[str, int] | None, polls: int | None, cut: int | None
    ) -> None:  # fmt: skip
        self.sides.write(data.draw(transactions(self.tables, messages=True)), "COMMIT", carefully=True)
        self.sides.die_at, self.sides.cut_in = death, cut
        if polls is not None:
            self.sides.die_after_polls(polls)
        self.sides.catch_up()
        self.sides.live()

    @rule(worker=WORKERS)
    def restart(self, worker: Settings) -> None:
        self.sides.stop()
        self.sides.settings = worker

    @rule(data=st.data(), verb=st.sampled_from(["COMMIT", "ROLLBACK"]))
    def compare(self, data: st.DataObject, verb: LiteralString) -> None:
        some = transactions(self.tables, messages=True)
        # A snapshot that is older than a TRUNCATE sees the table empty.
        before, after = data.draw(some), data.draw(some.filter(lambda written: "TRUNCATE" not in str(written)))
        self._end_all(verb)
        self.sides.settle()
        self.sides.write(before, "COMMIT", carefully=True)
        with self.sides.barrier() as snapshots:
            self.sides.write(after, "COMMIT", carefully=True)
            self.sides.assert_equal(snapshots)

    def _end_all(self, verb: LiteralString) -> None:
        while self.prepared:
            self.end_prepared(verb)
        self.end_long_transaction(verb)

    def teardown(self) -> None:
        if self.tables and sys.exception() is None:
            self._end_all("COMMIT")
            self.sides.settle()
            with self.sides.barrier() as snapshots:
                self.sides.assert_equal(snapshots)
        self.sides.shared.execute("ROLLBACK")
        self.sides.long.execute("ROLLBACK")
        for name in self.prepared:
            self.sides.shared.execute(f"ROLLBACK PREPARED '{name}'".encode())
        self.prepared.clear()


#: The way there, and the way back.
@pytest.mark.parametrize("sides", [(16, 18), (18, 16)], ids=["16-18", "18-16"], indirect=True)
def test_random_histories(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    class Played(History):
        def __init__(self) -> None:
            super().__init__(sides, monkeypatch)

    run_state_machine_as_test(
        Played,
        settings=settings(
            max_examples=HISTORIES or 10, stateful_step_count=30, derandomize=not HISTORIES, deadline=None,
            database=None, phases=[Phase.generate, *([Phase.shrink] if SHRINK else [])], report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    print(dict(sides.seen))
    assert sides.seen["barrier"] > 0
    assert sides.seen["rows"] > 100
    assert sides.seen["start"] > 2
    assert sides.seen["arriving"] > 100
    assert HISTORIES or sides.seen["cut"] + sides.seen["killed at arriving"] > 0
    assert sides.seen["events"] > 10
