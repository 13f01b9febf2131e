"""SQLAlchemy's async engine writes both sides as the sync one does: the same protocol, waiting in the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from contexts.model import Side
from migrator.lockstep import phase
from migrator.shims import lockstep
from migrator.shims.aio import gated_async_engine
from migrator.shims.lockstep import LockstepRefused
from tests.lockstep.conftest import Lockstepped
from tests.lockstep.test_crashes import DECIDED, SHIM
from tests.migrator.driving import driver
from tests.migrator.moving import ROOT
from tests.waiting import wait_until

ADD = text("UPDATE bank.account SET balance = balance + 1 WHERE id = :id")
NOTE = text("INSERT INTO bank.entry (account, amount, memo) VALUES (:id, 1, :memo)")
Work = Callable[[AsyncEngine], Awaitable[Any]]


def running(bank: Lockstepped, work: Work, urls: dict[Side, str] | None = None, **options: Any) -> Any:
    """Run something with an engine, in an event loop of its own."""

    async def whole() -> Any:
        engine = gated_async_engine("bank", urls or {side: bank.both[side].url for side in Side}, **options)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(whole())


async def session(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as open_session, open_session.begin():
        await open_session.execute(ADD, {"id": 1})
        await open_session.execute(NOTE, [{"id": 1, "memo": "a"}, {"id": 2, "memo": "b"}])


async def core(engine: AsyncEngine) -> None:
    async with engine.begin() as conn:
        await conn.execute(ADD, {"id": 3})


async def savepoint_rolled_back(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as open_session, open_session.begin():
        await open_session.execute(ADD, {"id": 4})
        with suppress(exc.DataError):
            async with open_session.begin_nested():
                await open_session.execute(ADD, {"id": 5})
                await open_session.execute(text("SELECT 1 / 0"))
        async with open_session.begin_nested():
            await open_session.execute(NOTE, {"id": 6, "memo": "kept"})


async def failing(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as open_session, open_session.begin():
        await open_session.execute(ADD, {"id": 1})
        await open_session.execute(text("SELECT 1 / 0"))


async def commit_as_you_go(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as open_session:
        for account in (7, 8):
            await open_session.execute(ADD, {"id": account})
            await open_session.commit()


@pytest.mark.parametrize(
    ("work", "transactions"), [(session, 1), (core, 1), (savepoint_rolled_back, 1), (commit_as_you_go, 2)]
)
def test_both_sides_are_equal_when_the_commit_returns(bank: Lockstepped, work: Work, transactions: int) -> None:
    with bank.in_lockstep():
        audited, before = bank.audited(), bank.rows(Side.SHARED)
        running(bank, work)
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE) != before
        assert bank.prepared() == 0
        bank.await_audited(audited + transactions)
        assert bank.differences() == []


def test_what_is_rolled_back_is_on_neither_side(bank: Lockstepped) -> None:
    async def work(engine: AsyncEngine) -> None:
        with pytest.raises(exc.DataError):
            await failing(engine)
        async with engine.connect() as conn:
            await conn.execute(ADD, {"id": 1})
            await conn.rollback()

    with bank.in_lockstep():
        before = bank.rows(Side.SHARED)
        running(bank, work)
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE) == before
        assert bank.prepared() == 0


def test_serialization_failures_are_tried_again(bank: Lockstepped) -> None:
    async def add(engine: AsyncEngine) -> int:
        tries = 0
        while True:
            tries += 1
            try:
                async with AsyncSession(engine) as open_session, open_session.begin():
                    found = await open_session.execute(text("SELECT balance FROM bank.account WHERE id = 9"))
                    values = {"balance": found.scalar_one() + 1}
                    await open_session.execute(text("UPDATE bank.account SET balance = :balance WHERE id = 9"), values)
                return tries
            except exc.DBAPIError as error:
                if not isinstance(error.orig, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
                    raise

    async def work(engine: AsyncEngine) -> int:
        return sum(await asyncio.gather(*(add(engine) for _ in range(10))))

    with bank.in_lockstep():
        before = bank.count("SELECT balance FROM bank.account WHERE id = 9")
        assert running(bank, work, isolation_level="SERIALIZABLE") > 10
        assert bank.count("SELECT balance FROM bank.account WHERE id = 9") == before + 10
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)


def test_a_service_side_that_does_not_answer_refuses_the_write(bank: Lockstepped) -> None:
    async def work(engine: AsyncEngine) -> None:
        with pytest.raises(LockstepRefused):
            await core(engine)

    urls = {Side.SHARED: bank.both.shared.url, Side.SERVICE: "postgresql://nobody@127.0.0.1:1/none"}
    with bank.in_lockstep():
        before = bank.rows(Side.SHARED)
        running(bank, work, urls)
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE) == before


def test_phases_flip_under_an_async_load(bank: Lockstepped) -> None:
    async def pay(engine: AsyncEngine, number: int, stop: asyncio.Event, paid: list[str]) -> None:
        while not stop.is_set():
            memo = f"async {number} {len(paid)}"
            async with AsyncSession(engine) as open_session, open_session.begin():
                await open_session.execute(ADD, {"id": 10 + number})
                await open_session.execute(NOTE, {"id": 10 + number, "memo": memo})
            paid.append(memo)

    async def work(engine: AsyncEngine) -> list[str]:
        stop = asyncio.Event()
        paid: list[list[str]] = [[] for _ in range(4)]
        tasks = [asyncio.create_task(pay(engine, number, stop, paid[number])) for number in range(4)]
        for _ in range(4):
            wanted = [len(one) + 10 for one in paid]
            while not any(task.done() for task in tasks) and any(
                len(one) < goal for one, goal in zip(paid, wanted, strict=True)
            ):
                await asyncio.sleep(0)
            await asyncio.to_thread(flip)
        stop.set()
        await asyncio.gather(*tasks)
        return [memo for one in paid for memo in one]

    def flip() -> None:
        with driver(bank) as run:
            phase.enter(run) if bank.state() == "streaming" else phase.leave(run, "a flip")

    memos = running(bank, work, wait_limit_s=30.0)
    assert bank.state() == "streaming"
    bank.await_equal()
    with bank.both.service.connect("test") as conn:
        found = conn.execute("SELECT memo FROM bank.entry WHERE memo LIKE 'async%'").fetchall()
    assert sorted(memo for (memo,) in found) == sorted(memos)
    assert bank.differences() == []


def test_a_task_that_is_cancelled_while_it_commits_leaves_nothing_half(
    bank: Lockstepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled at the shared commit: what the service side has prepared is ended as the shared side decided."""

    async def work(engine: AsyncEngine) -> None:
        task = asyncio.create_task(core(engine))

        def cancel(point: str) -> None:
            if point == "shim.prepared":
                task.cancel()

        with monkeypatch.context() as patched:
            patched.setattr(lockstep, "kill_point", cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
        await core(engine)

    with bank.in_lockstep():
        running(bank, work)
        wait_until(lambda: bank.prepared() == 0, lambda: f"{bank.prepared()} prepared")
        wait_until(lambda: bank.rows(Side.SHARED) == bank.rows(Side.SERVICE), lambda: "the sides differ")
        assert bank.differences() == []


@pytest.mark.parametrize("point", SHIM)
def test_an_application_killed_at_every_step(bank: Lockstepped, point: str) -> None:
    count = "SELECT count(*) FROM bank.entry WHERE memo LIKE 'payment%'"
    with bank.in_lockstep():
        before = bank.count(count)
        done = subprocess.run(
            [sys.executable, "-m", "tests.lockstep.application", bank.both.shared.url, bank.both.service.url, "9",
             "async"],
            env={**os.environ, "CARVEOUT_KILL_AT": f"{point}:4"}, cwd=ROOT, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(done.stdout.splitlines()) == 3
        wait_until(lambda: bank.prepared() == 0, lambda: f"{bank.prepared()} prepared")
        wait_until(lambda: bank.rows(Side.SHARED) == bank.rows(Side.SERVICE), lambda: "the sides differ")
        assert bank.count(count) - before == 2 * (4 if point in DECIDED else 3)
        assert bank.differences() == []
