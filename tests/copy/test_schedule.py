from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.copy import Part, Strategy
from cdc.copy.schedule import Schedule
from contexts.model import TableName


def parts(name: str, count: int, strategy: Strategy = Strategy.CTID, size: int = 100) -> list[Part]:
    return [Part(TableName("public", name), number, strategy, None, None, size) for number in range(count)]


def test_the_largest_table_comes_first_and_key_ranges_last() -> None:
    schedule = Schedule([*parts("ranges", 9, Strategy.KEY), *parts("small", 1), *parts("large", 3)], 60)
    order = [str(part) for part in iter(lambda: schedule.next(1), None)]
    assert order[:4] == ["public.large part 0", "public.large part 1", "public.large part 2", "public.small part 0"]
    assert len(order) == 13


def test_the_first_table_goes_on_past_the_deadline_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    schedule = Schedule([*parts("large", 3), *parts("small", 1), *parts("ranges", 1, Strategy.KEY)], 60)
    assert schedule.next(0)
    with caplog.at_level(logging.WARNING):
        assert [str(schedule.next(60)) for _ in range(2)] == ["public.large part 1", "public.large part 2"]
    assert schedule.next(61) is None
    assert [record.message for record in caplog.records] == [
        "public.large does not fit into one snapshot's maximal age: its copy goes on"
    ]


def test_a_later_table_is_left_at_the_deadline() -> None:
    schedule = Schedule([*parts("large", 1, size=999), *parts("small", 2)], 60)
    assert [str(schedule.next(1)) for _ in range(2)] == ["public.large part 0", "public.small part 0"]
    assert schedule.next(60) is None


def test_a_table_that_would_not_be_complete_in_time_is_not_begun() -> None:
    schedule = Schedule([*parts("a", 1, size=1000), *parts("b", 2, size=400), *parts("c", 1, size=10)], 100)
    first = schedule.next(0)
    assert first
    schedule.done(first)  # 1000 in 60 s: b would take 48 s more
    assert [str(schedule.next(60)) for _ in range(2)] == ["public.c part 0", "None"]


def test_a_cycle_always_does_something() -> None:
    assert Schedule(parts("a", 1), 0).next(5)
    late = Schedule(parts("a", 2, Strategy.KEY), 0)
    assert late.next(5)
    assert late.next(5) is None


@given(st.lists(st.tuples(st.sampled_from(Strategy), st.integers(1, 4), st.integers(0, 1000)), max_size=8), st.data())
def test_every_part_comes_once_over_cycles_that_restart_tables(
    tables: list[tuple[Strategy, int, int]], data: st.DataObject
) -> None:
    left = [part for i, (by, count, size) in enumerate(tables) for part in parts(f"t{i}", count, by, size)]
    for _ in range(len(left)):
        if not left:
            break
        schedule, age, done = Schedule(left, 10), 0.0, []
        while part := schedule.next(age):
            schedule.done(part)
            done.append(part)
            age += data.draw(st.floats(0, 8))
        whole = {part.table for part in left} - {part.table for part in left if part not in done}
        assert len(done) == len(set(map(str, done)))
        left = [p for p in left if p.table not in whole and (p.strategy is Strategy.CTID or p not in done)]
    assert left == []
