"""Payments whose Confirm and Cancel travel as messages: whoever dies, money and points agree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cdc.source.slots import create_publication, create_slot
from contexts.databases import Databases
from contexts.example import seed
from contexts.model import Side, TableName
from migrator.messaging.outbox import statements as messaging
from migrator.tcc.coordinator import Cancelled
from migrator.tcc.statements import statements
from tests.migrator.moving import ROOT
from tests.tcc.relaying import SLOT, carrying, coordinator
from tests.tcc.service import call
from tests.tcc.test_tcc import assert_whole, one, payments, urls
from tests.waiting import PATIENCE_S, wait_until

OPEN = "SELECT gid FROM wallet.tcc_transaction WHERE state NOT IN ('confirmed', 'cancelled')"


@pytest.fixture(scope="module")
def services(module_pair: Databases) -> Databases:
    """As for payments by calls, with an outbox and an inbox in each service's schema."""
    for side, schema in ((Side.SHARED, "wallet"), (Side.SERVICE, "history")):
        with module_pair[side].connect("test") as conn:
            seed.create(conn)
            conn.execute("ALTER TABLE history.points DROP CONSTRAINT points_account_id_fkey")  # the boundary cuts it
            if side is Side.SHARED:
                seed.seed(conn, accounts=20, payments=100)
                conn.execute(statements(schema)["coordinator"].encode())
                conn.execute("UPDATE wallet.accounts SET overdraft = 1000 WHERE id BETWEEN 2 AND 6")
            for text in (statements(schema)["barrier"], messaging(schema)["outbox"], messaging(schema)["inbox"]):
                conn.execute(text.encode())
            create_publication(conn, SLOT[schema], [TableName(schema, "outbox")])
            create_slot(conn, SLOT[schema], publication=SLOT[schema], timeout_s=PATIENCE_S)
    return module_pair


@contextmanager
def carried(services: Databases) -> Iterator[None]:
    """Messages arrive meanwhile."""
    stop = threading.Event()
    threads = carrying(*urls(services), stop)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def process(services: Databases, what: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tcc.relaying", what, *urls(services), *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip


def await_over(services: Databases) -> None:
    wait_until(lambda: one(services, Side.SHARED, OPEN) == [], lambda: str(one(services, Side.SHARED, OPEN)))
    assert_whole(services)


def confirmed(services: Databases, printed: str) -> None:
    there = payments(services)
    acknowledged = [gid for gid in printed.split() if gid != "cancelled"]
    assert acknowledged
    assert {there[gid] for gid in acknowledged} == {("captured", "pending")}


def test_confirm_and_cancel_travel_as_messages(services: Databases) -> None:
    paying = coordinator(*urls(services))
    gid = paying.run(call(2, 8, "1.50"))
    with pytest.raises(Cancelled):
        paying.run({"history": call(2, 8, "1")["history"], "wallet": call(2, 8, "1e7")["wallet"]})
    assert payments(services)[str(gid)] == ("open", "pending")  # nobody has been called
    with carried(services):
        await_over(services)
    assert payments(services)[str(gid)] == ("captured", "pending")
    assert paying.recover().waiting == []


def test_the_initiator_dies_after_its_decision(services: Databases) -> None:
    paying = process(services, "pay", "1000", CARVEOUT_KILL_AT="tcc.decided:9")
    out, err = paying.communicate(timeout=PATIENCE_S)
    assert paying.returncode == -signal.SIGKILL, err
    with carried(services):
        await_over(services)
    confirmed(services, out)


@pytest.mark.parametrize("point", ["inbox.handled:7", "inbox.committed:7"])
def test_whoever_handles_messages_dies(services: Databases, point: str) -> None:
    paying = process(services, "pay", "20")
    carrier = process(services, "carry", CARVEOUT_KILL_AT=point)
    _, err = carrier.communicate(timeout=PATIENCE_S)
    assert carrier.returncode == -signal.SIGKILL, err
    out, err = paying.communicate(timeout=PATIENCE_S)
    assert paying.returncode == 0, err
    with carried(services):
        await_over(services)
    confirmed(services, out)


def test_recovery_ends_what_no_message_has_ended_and_late_messages_do_nothing(services: Databases) -> None:
    before = one(services, Side.SHARED, "SELECT sum(amount) FROM wallet.ledger_entries WHERE amount > 0")[0][0]
    paying = process(services, "pay", "5")
    out, err = paying.communicate(timeout=PATIENCE_S)
    assert paying.returncode == 0, err
    assert coordinator(*urls(services), grace_s=3600).recover().confirmed == []
    found = coordinator(*urls(services), grace_s=0).recover()
    assert (len(found.confirmed), len(found.cancelled), found.waiting) == (3, 2, [])
    assert_whole(services)
    with carried(services):
        wait_until(lambda: _handled(services) == _sent(services))
    assert_whole(services)
    confirmed(services, out)
    after = one(services, Side.SHARED, "SELECT sum(amount) FROM wallet.ledger_entries WHERE amount > 0")[0][0]
    assert after - before == 3  # type: ignore[operator]


def _handled(services: Databases) -> int:
    wallet = one(services, Side.SHARED, "SELECT id FROM wallet.inbox_message WHERE state = 'handled'")
    history = one(services, Side.SERVICE, "SELECT id FROM history.inbox_message WHERE state = 'handled'")
    return len(wallet) + len(history)


def _sent(services: Databases) -> int:
    wallet = one(services, Side.SHARED, "SELECT id FROM wallet.outbox")
    return len(wallet) + len(one(services, Side.SERVICE, "SELECT id FROM history.outbox"))
