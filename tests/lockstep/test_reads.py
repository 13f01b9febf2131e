"""Reads by share, and shadow reads: planted differences are found, and none on equal sides under load."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from contexts.model import Side
from migrator.lockstep import reads as read_share
from migrator.shims.engine import gated_engine
from migrator.shims.reads import Reads
from migrator.shims.shadow import Shadow
from tests.lockstep.conftest import Lockstepped
from tests.lockstep.test_audit import rogue
from tests.migrator.driving import driver
from tests.waiting import wait_until

SUM = "SELECT sum(balance) FROM bank.account WHERE id > :low"


def urls(bank: Lockstepped) -> dict[Side, str]:
    return {side: bank.both[side].url for side in Side}


def shadow(bank: Lockstepped, **options: object) -> Shadow:
    connect = {side: lambda side=side: psycopg.connect(bank.both[side].url) for side in Side}
    return Shadow("bank", connect, sample=1.0, **options)  # type: ignore[arg-type]


@contextmanager
def paying(bank: Lockstepped) -> Iterator[None]:
    """Somebody pays between two accounts, without end."""
    gated, stop = bank.connections(), threading.Event()

    def pay() -> None:
        while not stop.is_set():
            with gated.transaction() as conn:
                conn.execute("UPDATE bank.account SET balance = balance - 1 WHERE id = 101")
                conn.execute("UPDATE bank.account SET balance = balance + 2 WHERE id = 102")
        gated.close()

    thread = threading.Thread(target=pay)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_reads_go_where_the_share_says(bank: Lockstepped) -> None:
    reads = Reads("bank", urls(bank))
    with bank.in_lockstep():
        for percent, sides in ((0, {Side.SHARED}), (100, {Side.SERVICE}), (50, set(Side))):
            with driver(bank) as run:
                read_share.set_share(run, percent)
            wait_until(lambda sides=sides: {reads.side() for _ in range(60)} == sides)  # type: ignore[misc]
        with driver(bank) as run:
            read_share.set_share(run, 100)
        wait_until(lambda: {reads.side() for _ in range(60)} == {Side.SERVICE})
        with reads.session() as session:
            assert session.execute(text("SHOW transaction_read_only")).scalar() == "on"
            assert session.execute(text("SELECT current_database()")).scalar_one().endswith("service")
    assert {reads.side() for _ in range(60)} == {Side.SHARED}
    reads.dispose()


def test_equal_sides_do_not_differ_under_load(bank: Lockstepped) -> None:
    engine, seen = gated_engine("bank", urls(bank)), shadow(bank)
    seen.attach(engine)
    with bank.in_lockstep(), paying(bank):
        for n in range(60):
            with Session(engine) as session:
                session.execute(text(SUM), {"low": n}).all()
                session.execute(text("SELECT id, balance FROM bank.account WHERE id IN (101, 102) ORDER BY id")).all()
        seen.close()
    engine.dispose()
    total = Counter({"runs": 0, "differences": 0, "errors": 0})
    for tally in seen.tallies.values():
        total.update(runs=tally.runs, differences=tally.differences, errors=tally.errors)
    assert total == Counter(runs=120, differences=0, errors=0)


def test_a_planted_difference_is_found_and_kept_without_values(bank: Lockstepped) -> None:
    engine, seen = gated_engine("bank", urls(bank)), shadow(bank, known=[r"FROM bank\.entry"])
    seen.attach(engine)
    with bank.in_lockstep():
        rogue(bank, Side.SERVICE, "UPDATE bank.account SET balance = balance + 1 WHERE id = 199")
        with engine.connect() as connection:
            assert isinstance(connection.execute(text(SUM), {"low": 150}).scalar(), Decimal)
            connection.execute(text("SELECT balance FROM bank.account WHERE owner = 'owner 1' AND id < 5")).all()
            connection.execute(text("SELECT * FROM bank.account LIMIT 3")).all()
            connection.execute(text("SELECT count(*) FROM bank.entry")).all()
            connection.execute(text("SELECT 1 FROM bank.account WHERE id = 1 FOR UPDATE")).all()
        seen.close()
        rogue(bank, Side.SERVICE, "UPDATE bank.account SET balance = balance - 1 WHERE id = 199")
    engine.dispose()
    assert {statement: tally.differences for statement, tally in seen.tallies.items()} == {
        "SELECT sum(balance) FROM bank.account WHERE id > %(low)s": 1,
        "SELECT balance FROM bank.account WHERE owner = ? AND id < ?": 0,
    }
    with bank.both.service.connect("test") as conn:
        kept = conn.execute("SELECT statement, differences FROM carveout.shadow_read WHERE differences > 0").fetchall()
    assert kept == [("SELECT sum(balance) FROM bank.account WHERE id > %(low)s", 1)]
