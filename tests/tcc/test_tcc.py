"""Payments over two databases: money and points agree whatever dies, and pending holds are resolved."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from contexts.databases import Databases
from contexts.example import seed
from contexts.model import Side
from migrator.tcc.barrier import Barrier, OutOfOrder, TooLate
from migrator.tcc.coordinator import Cancelled
from migrator.tcc.statements import statements
from tests.migrator.moving import ROOT
from tests.tcc.service import call, coordinator
from tests.waiting import wait_until

LATER = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
INVARIANTS = sorted((ROOT / "contexts" / "wallet" / "invariants").glob("*.sql"))


@pytest.fixture(scope="module")
def services(module_pair: Databases) -> Databases:
    """The wallet's database and the history's: each has the tables of both, and uses its own."""
    for side, schema in ((Side.SHARED, "wallet"), (Side.SERVICE, "history")):
        with module_pair[side].connect("test") as conn:
            seed.create(conn)
            conn.execute(statements(schema)["barrier"].encode())
            conn.execute("ALTER TABLE history.points DROP CONSTRAINT points_account_id_fkey")  # the boundary cuts it
            if side is Side.SHARED:
                seed.seed(conn, accounts=20, payments=100)
                conn.execute(statements(schema)["coordinator"].encode())
                conn.execute("UPDATE wallet.accounts SET overdraft = 1000 WHERE id BETWEEN 2 AND 6")
    return module_pair


def urls(services: Databases) -> tuple[str, str]:
    return services.shared.url, services.service.url


def one(services: Databases, side: Side, query: str, *values: object) -> list[tuple[object, ...]]:
    with services[side].connect("test") as conn:
        return conn.execute(query.encode(), values).fetchall()


def states(services: Databases, side: Side, query: str) -> dict[object, object]:
    return {gid: state for gid, state in one(services, side, query)}  # noqa: C416  # rows of two columns


def payments(services: Databases) -> dict[object, tuple[object, object]]:
    """Every payment that was ever tried: the state of its hold and of its point."""
    held = "SELECT h.id::text, h.state::text FROM wallet.holds h JOIN wallet.tcc_branch b ON b.gid = h.id"
    holds = states(services, Side.SHARED, held)
    points = states(services, Side.SERVICE, "SELECT payment_id::text, state::text FROM history.points")
    return {gid: (holds.get(gid), points.get(gid)) for gid in holds.keys() | points.keys()}


WHOLE = {("captured", "pending"), ("released", "expired"), ("released", None), (None, "expired")}


def assert_whole(services: Databases) -> None:
    """Nothing is pending, hold and point agree, and the wallet's invariants hold."""
    assert set(payments(services).values()) <= WHOLE
    for side, schema in ((Side.SHARED, "wallet"), (Side.SERVICE, "history")):
        assert one(services, side, f"SELECT gid FROM {schema}.tcc_branch WHERE state = 'tried'") == []
    for path in INVARIANTS:
        text = path.read_text()
        if "kind: number" not in text:
            assert one(services, Side.SHARED, text) == [], path.name


def test_a_payment_is_on_both_sides(services: Databases) -> None:
    gid = coordinator(*urls(services)).run(call(2, 8, "1.50"))
    assert payments(services)[str(gid)] == ("captured", "pending")
    assert_whole(services)


def test_what_one_service_refuses_the_other_gives_back(services: Databases) -> None:
    before = len(payments(services))
    with pytest.raises(Cancelled, match="cancelled"):
        coordinator(*urls(services)).run({"history": call(2, 8, "1")["history"], "wallet": call(2, 8, "1e7")["wallet"]})
    made = list(payments(services).values())
    assert len(made) == before + 1
    assert (None, "expired") in made
    assert_whole(services)


STEPS = [("tcc.begun", 1), ("tcc.tried", 1), ("tcc.tried", 2), ("tcc.decided", 1), ("tcc.called", 1), ("tcc.called", 2)]


@pytest.mark.parametrize(("point", "nth"), STEPS)
def test_a_service_killed_at_every_step(services: Databases, point: str, nth: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tcc.service", *urls(services), "1000"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "CARVEOUT_KILL_AT": f"{point}:{nth + 8}"}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    recovering = coordinator(*urls(services))

    def is_over() -> bool:
        recovering.recover()
        return one(services, Side.SHARED, "SELECT gid FROM wallet.tcc_transaction WHERE state NOT IN"
                                          " ('confirmed', 'cancelled')") == []  # fmt: skip

    wait_until(is_over)
    assert_whole(services)
    there = payments(services)
    acknowledged = [gid for gid in done.stdout.split() if gid != "cancelled"]
    assert acknowledged
    assert {there[gid] for gid in acknowledged} == {("captured", "pending")}


def test_a_service_that_is_away_after_the_decision_is_confirmed_later(services: Databases) -> None:
    """The history's database refuses connections between its try and its confirm."""
    name = psycopg.conninfo.conninfo_to_dict(services.service.url)["dbname"]
    admin = psycopg.conninfo.make_conninfo(services.service.url, dbname="postgres")
    paying = coordinator(*urls(services))

    def allow(wanted: bool) -> None:
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {str(wanted).lower()}'.encode())

    gid = paying.run(call(3, 9, "2.00"), decide=lambda _: allow(False))
    assert paying.recover().waiting == [gid]
    allow(True)
    assert paying.recover().confirmed == [gid]
    assert payments(services)[str(gid)] == ("captured", "pending")
    assert_whole(services)


def test_several_recoveries_at_once_do_everything_once(services: Databases) -> None:
    for _ in range(5):
        subprocess.run(
            [sys.executable, "-m", "tests.tcc.service", *urls(services), "1"], cwd=ROOT, check=False, timeout=60,
            env={**os.environ, "CARVEOUT_KILL_AT": "tcc.decided"}, capture_output=True,
        )  # fmt: skip
    before = one(services, Side.SHARED, "SELECT sum(amount) FROM wallet.ledger_entries WHERE amount > 0")
    threads = [threading.Thread(target=coordinator(*urls(services)).recover) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = one(services, Side.SHARED, "SELECT sum(amount) FROM wallet.ledger_entries WHERE amount > 0")
    assert after[0][0] == before[0][0]  # the refused amount is the first of every service, and is cancelled
    assert_whole(services)


@pytest.fixture
def session(services: Databases) -> Iterator[Session]:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(services.shared.url))
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_the_barrier_lets_each_call_through_once(session: Session) -> None:
    barrier, gid = Barrier("wallet", "b"), uuid.uuid4()
    assert [barrier.try_(session, gid, LATER) for _ in range(2)] == [True, False]
    assert [barrier.confirm(session, gid) for _ in range(2)] == [True, False]
    with pytest.raises(OutOfOrder, match="cannot be cancelled, it is confirmed"):
        barrier.cancel(session, gid)
    assert not barrier.try_(session, gid, LATER)


def test_a_cancel_before_its_try_is_empty_and_the_late_try_is_refused(session: Session) -> None:
    barrier, gid = Barrier("wallet", "b"), uuid.uuid4()
    assert [barrier.cancel(session, gid) for _ in range(2)] == [False, False]
    with pytest.raises(TooLate, match="was cancelled"):
        barrier.try_(session, gid, LATER)
    with pytest.raises(OutOfOrder, match="cannot be confirmed, it is cancelled"):
        barrier.confirm(session, gid)


def test_a_cancel_after_its_try_is_done_once(session: Session) -> None:
    barrier, gid = Barrier("wallet", "b"), uuid.uuid4()
    assert barrier.try_(session, gid, LATER)
    assert [barrier.cancel(session, gid) for _ in range(2)] == [True, False]


def test_a_confirm_without_a_try_is_refused(session: Session) -> None:
    with pytest.raises(OutOfOrder, match="not tried"):
        Barrier("wallet", "b").confirm(session, uuid.uuid4())


def test_a_rolled_back_try_leaves_no_trace(session: Session) -> None:
    barrier, gid = Barrier("wallet", "b"), uuid.uuid4()
    assert barrier.try_(session, gid, LATER)
    session.rollback()
    assert barrier.try_(session, gid, LATER)
