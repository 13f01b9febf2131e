"""Sessions over several contexts: where their statements go, and what becomes of transactions in two places."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import exc, select, text
from sqlalchemy.orm import Session

from contexts.embedded import Server
from contexts.model import Side
from migrator.shims.across import CutRefused
from migrator.shims.aio import RoutedAsyncSessions
from migrator.shims.places import Moving
from migrator.shims.routing import RoutedSessions
from tests.conftest import new_databases
from tests.lockstep.town import DRAWER, NAMES, Account, Drawer, Entry, Town, pay
from tests.migrator.moving import ROOT
from tests.waiting import wait_until

Sessions = Callable[..., RoutedSessions]


@pytest.fixture(scope="module")
def built(servers: Callable[[int], Server]) -> Iterator[Town]:
    for make in new_databases(servers):
        town = Town(make(16, Side.SHARED), make(18, Side.SERVICE), make(18, Side.SERVICE))
        town.build()
        yield town


@pytest.fixture
def town(built: Town) -> Iterator[Town]:
    yield built
    for context in built.services:
        built.open(context, Side.SHARED)


@pytest.fixture
def sessions(town: Town) -> Iterator[Sessions]:
    made: list[RoutedSessions] = []

    def make(**options: Any) -> RoutedSessions:
        made.append(town.sessions(**options))
        return made[-1]

    yield make
    for one in made:
        one.dispose()


def changed(town: Town, work: Callable[[], object]) -> dict[str, int]:
    before = town.state()
    work()
    after = town.state()
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def paying(sessions: RoutedSessions, *, log: bool = True) -> Callable[[], None]:
    def work() -> None:
        with sessions.begin() as session:
            pay(session, log=log)

    return work


def fails(kind: type[Exception], sessions: RoutedSessions, work: Callable[[Session], None]) -> None:
    with pytest.raises(kind), sessions.begin() as session:
        work(session)


def test_before_anything_moves_it_is_one_transaction(town: Town, sessions: Sessions) -> None:
    assert changed(town, paying(sessions())) == {"bank shared": 1, "till shared": 1, "log": 1}


def test_a_context_that_is_not_prepared_is_on_the_shared_side(town: Town, sessions: Sessions) -> None:
    for context in town.services:
        town.unprepare(context)
    assert changed(town, paying(sessions())) == {"bank shared": 1, "till shared": 1, "log": 1}
    town.prepare("bank")
    town.open("bank", Side.SERVICE)
    made = sessions(across="two-phase")
    assert changed(town, paying(made)) == {"bank service": 1, "till shared": 1, "log": 1}
    town.prepare("till")


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_statements_follow_their_tables_there_and_back(town: Town, sessions: Sessions, isolation: str) -> None:
    made = sessions(isolation_level=isolation)

    def one_by_one() -> None:
        with made.begin() as session:
            session.add(Entry(memo="one"))
        with made.begin() as session:
            session.execute(text("UPDATE ONLY bank.Account a SET n = a.n + 1 WHERE a.id = 2"))
        with made.begin() as session:
            session.execute(DRAWER.update().values(n=DRAWER.c.n + 1).where(DRAWER.c.id == 2))

    for bank, till in ((Side.SHARED, Side.SERVICE), (Side.SERVICE, Side.SERVICE), (Side.SERVICE, Side.SHARED)):
        town.open("bank", bank)
        town.open("till", till)
        assert changed(town, one_by_one) == {f"bank {bank}": 1, f"till {till}": 1, "log": 1}


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_transaction_waits_at_every_gate_and_then_goes_to_the_side_that_opened(
    town: Town, sessions: Sessions, isolation: str
) -> None:
    made = sessions(isolation_level=isolation, across="two-phase")
    with ThreadPoolExecutor(1) as pool:
        with town.closed("till"):
            waiting = pool.submit(changed, town, paying(made))
            wait_until(lambda: town.waiting("till") == 1)
            town.open("till", Side.SERVICE)
        assert waiting.result(30) == {"bank shared": 1, "till service": 1, "log": 1}


@pytest.mark.parametrize(("across", "leads_to"), [("refuse", "several-contexts.md"), ("tcc", "tcc.md")])
def test_what_wrote_in_two_places_is_refused_and_committed_nowhere(
    town: Town, sessions: Sessions, across: str, leads_to: str
) -> None:
    town.open("bank", Side.SERVICE)

    def refused() -> None:
        with pytest.raises(CutRefused) as caught:
            paying(sessions(across=across))()
        assert "public.log (no context), till.drawer (context till) in the shared database" in str(caught.value)
        assert "bank.account (context bank) in the service database of bank" in str(caught.value)
        assert leads_to in caught.value.next_step

    assert changed(town, refused) == {}
    assert town.prepared() == 0


def test_reading_elsewhere_is_no_cut_but_locking_is(town: Town, sessions: Sessions) -> None:
    town.open("bank", Side.SERVICE)
    made = sessions()

    def reads() -> None:
        with made.begin() as session:
            assert session.scalars(select(Account.id).where(Account.id == 1)).one() == 1
            session.add(Entry(memo="read"))

    def locks(session: Session) -> None:
        session.scalars(select(Account).where(Account.id == 1).with_for_update()).one()
        session.add(Entry(memo="locked"))

    assert changed(town, reads) == {"log": 1}
    assert changed(town, partial(fails, CutRefused, made, locks)) == {}


def test_a_statement_over_two_places_is_not_run(town: Town, sessions: Sessions) -> None:
    town.open("bank", Side.SERVICE)
    with sessions()() as session, pytest.raises(CutRefused, match="bank is moved, till is shared"):
        session.execute(select(Account, Drawer).join(Drawer, Drawer.id == Account.id))


def test_raw_sql_says_its_context_where_its_text_does_not(town: Town, sessions: Sessions) -> None:
    town.open("till", Side.SERVICE)
    statement = text("SELECT sum(n) FROM (TABLE drawer) d")

    def work() -> None:
        with sessions(connect_args={"options": "-c search_path=till"}).begin() as session:
            session.execute(text("UPDATE drawer SET n = n + 1 WHERE id = 1"), bind_arguments={"context": "till"})
            assert session.scalar(statement, bind_arguments={"context": "till"})

    assert changed(town, work) == {"till service": 1}


@pytest.mark.parametrize("moved", [["bank"], ["bank", "till"]])
@pytest.mark.parametrize("log", [True, False])
def test_two_phase_commits_everywhere(town: Town, sessions: Sessions, moved: list[str], log: bool) -> None:
    for context in moved:
        town.open(context, Side.SERVICE)
    expected = {f"{name} {'service' if name in moved else 'shared'}": 1 for name in town.services}
    made = sessions(across="two-phase")
    for _ in range(2):
        assert changed(town, paying(made, log=log)) == expected | ({"log": 1} if log else {})
    assert town.prepared() == 0


def test_two_phase_rolls_back_everywhere(town: Town, sessions: Sessions) -> None:
    for context in town.services:
        town.open(context, Side.SERVICE)
    made = sessions(across="two-phase")

    def fails_before(session: Session) -> None:
        pay(session)
        session.execute(text("SELECT 1 / 0"))

    def fails_in_flush(session: Session) -> None:
        pay(session)
        session.get_one(Account, 2).n = 1000

    def savepoint() -> None:
        with made.begin() as session:
            nested = session.begin_nested()
            pay(session)
            nested.rollback()
            session.add(Entry(memo="after the savepoint"))

    assert changed(town, partial(fails, exc.DataError, made, fails_before)) == {}
    assert changed(town, partial(fails, exc.IntegrityError, made, fails_in_flush)) == {}
    assert changed(town, savepoint) == {"log": 1}
    assert town.prepared() == 0


def test_two_phase_where_the_second_cannot_prepare_is_on_no_side(town: Town, sessions: Sessions) -> None:
    """A temporary table keeps a transaction from being prepared; the first one was prepared by then."""
    for context in town.services:
        town.open(context, Side.SERVICE)

    def work(session: Session) -> None:
        pay(session)
        create = text("CREATE TEMPORARY TABLE t ON COMMIT DROP AS SELECT 1")
        session.execute(create, bind_arguments={"context": "till"})

    assert changed(town, partial(fails, exc.DBAPIError, sessions(across="two-phase"), work)) == {}
    assert town.prepared() == 0


#: The point, and how many of the three places must have the fourth payment after the recovery: all or none.
KILLED = {
    "cut.decision_written:7": 3,  # the first of two
    "cut.prepared:7": 3,  # between the two prepares
    "cut.prepared:8": 3,
    "shim.decided:7": 4,  # the shared side has committed, neither of the two
    "shim.decided:8": 4,  # between the two commits
    "shim.settled:8": 4,
}


@pytest.mark.parametrize("point", KILLED)
def test_an_application_killed_at_every_step(town: Town, point: str) -> None:
    for context in town.services:
        town.open(context, Side.SERVICE)

    def work() -> None:
        urls = [town.shared.url, *(database.url for database in town.services.values())]
        done = subprocess.run(
            [sys.executable, "-m", "tests.lockstep.town", *urls, "9"], env={**os.environ, "CARVEOUT_KILL_AT": point},
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(done.stdout.splitlines()) == 3
        wait_until(town.recovered, lambda: f"{town.prepared()} prepared")

    count = KILLED[point]
    assert changed(town, work) == {"bank service": count, "till service": count, "log": count}


@pytest.mark.parametrize("across", ["refuse", "two-phase"])
def test_async_sessions_do_the_same(town: Town, across: str) -> None:
    town.open("till", Side.SERVICE)
    contexts = {name: Moving(database.url, NAMES[name]) for name, database in town.services.items()}

    async def one(sessions: RoutedAsyncSessions) -> None:
        async with sessions.begin() as session:
            await session.run_sync(pay)

    async def whole() -> list[type[BaseException]]:
        sessions = RoutedAsyncSessions(town.shared.url, contexts, across=across)
        try:
            ended = await asyncio.gather(*(one(sessions) for _ in range(3)), return_exceptions=True)
        finally:
            await sessions.dispose()
        return [type(error) for error in ended if error is not None]

    def work() -> None:
        assert asyncio.run(whole()) == ([CutRefused] * 3 if across == "refuse" else [])

    expected = {} if across == "refuse" else {"bank shared": 3, "till service": 3, "log": 3}
    assert changed(town, work) == expected
    assert town.prepared() == 0
