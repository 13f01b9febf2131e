"""The gate of async engines against real servers: tasks wait, the event loop does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from contexts.databases import Databases
from contexts.model import Side
from migrator.shims.aio import gated_async_engine
from migrator.shims.engine import NotGated
from migrator.shims.gate import GateClosed
from tests.migrator.test_shims import WHERE, Switchable, both, switchable, unprepared, urls

__all__ = ["both", "switchable", "unprepared"]
TASKS = 5


def running(both: Databases, work: Callable[[AsyncEngine], Awaitable[Any]], **options: Any) -> Any:
    """Run something with an engine, in an event loop of its own."""

    async def whole() -> Any:
        engine = gated_async_engine("bank", urls(both), **{"wait_limit_s": 20.0, **options})
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(whole())


async def where(engine: AsyncEngine) -> str:
    async with AsyncSession(engine) as session, session.begin():
        return str((await session.execute(text(WHERE))).scalar_one())


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "SERIALIZABLE"])
def test_all_tasks_that_wait_at_the_gate_go_to_the_side_that_opens(switchable: Switchable, isolation: str) -> None:
    async def work(engine: AsyncEngine) -> tuple[set[str], set[str]]:
        before = set(await asyncio.gather(*(where(engine) for _ in range(TASKS))))
        with switchable.closed(Side.SHARED):
            tasks = [asyncio.create_task(where(engine)) for _ in range(TASKS)]
            while switchable.waiting(Side.SHARED) < TASKS:  # the loop is free: it comes round here
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            switchable.tell(*Side, open_side=Side.SERVICE)
        return before, set(await asyncio.gather(*tasks))

    ends = running(switchable.both, work, isolation_level=isolation)
    assert ends == ({switchable.name(Side.SHARED)}, {switchable.name(Side.SERVICE)})


def test_past_the_limit_the_task_is_told_so(switchable: Switchable) -> None:
    async def work(engine: AsyncEngine) -> str:
        with switchable.closed(Side.SHARED), pytest.raises(GateClosed, match=r"a switch has kept the gate closed"):
            await where(engine)
        return await where(engine)

    assert running(switchable.both, work, wait_limit_s=0.2) == switchable.name(Side.SHARED)


def test_both_sides_closed_the_loop_goes_on_between_attempts(switchable: Switchable) -> None:
    switchable.tell(Side.SHARED, open_side=Side.SERVICE)  # half done: each side names the other one
    switchable.tell(Side.SERVICE, open_side=Side.SHARED)

    async def work(engine: AsyncEngine) -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        turning = asyncio.create_task(turn())
        with pytest.raises(GateClosed, match="no side has let the transaction in"):
            await where(engine)
        turning.cancel()
        return turns

    assert running(switchable.both, work, wait_limit_s=0.3) > 5


def test_without_a_migration_the_shared_side_takes_all(unprepared: Switchable) -> None:
    assert running(unprepared.both, where) == unprepared.name(Side.SHARED)


def test_what_cannot_hold_the_gate_is_refused(switchable: Switchable) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with engine.connect() as conn:
            await conn.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(NotGated, match="in AUTOCOMMIT no statement would hold it"):
                await conn.execute(text(WHERE))

    running(switchable.both, work)
