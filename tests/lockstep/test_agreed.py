"""Verifying and repairing in lockstep: at moments at which no transaction is between its two commits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from cdc.state.position import StreamId
from contexts.model import Side
from migrator.continuous.recheck import Rechecked
from migrator.continuous.rounds import Rounds
from migrator.control import intents
from migrator.control.intents import Kind
from migrator.lockstep import agreed, keeper, phase
from migrator.lockstep.agreed import NoAgreement, NotInLockstep
from migrator.repair import rows
from migrator.repair.rows import MovedOn
from migrator.shims import lockstep as shim
from migrator.shims.direct import GatedConnections
from migrator.verify import Verification
from tests.lockstep.conftest import Lockstepped
from tests.migrator.driving import driver
from tests.migrator.inprocess import verify
from tests.migrator.moving import Bank
from tests.waiting import wait_until
from validations.snapshots import imported

STREAM = StreamId("bank", 1)
PAY = "UPDATE bank.account SET balance = balance + 1 WHERE id = 60"


def rogue(bank: Bank, side: Side, statement: str) -> None:
    with bank.both[side].connect("test", session_replication_role="replica") as conn:
        conn.execute(statement.encode())


def pay(gated: GatedConnections) -> None:
    with gated.transaction() as conn:
        conn.execute(PAY)


@contextmanager
def stopped_at(monkeypatch: pytest.MonkeyPatch, point: str, action: Callable[[], None]) -> Iterator[None]:
    """Whatever a shim does waits at a point of it, once."""
    done: list[str] = []

    def reached(name: str) -> None:
        if name == point and not done:
            done.append(name)
            action()

    with monkeypatch.context() as patch:
        patch.setattr(shim, "kill_point", reached)
        yield


def is_waiting_for_the_gate(bank: Lockstepped) -> bool:
    return bool(bank.count(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'"
        " AND relation = 'carveout.gate_bank'::regclass"
    ))  # fmt: skip


def test_verify_and_repair_in_lockstep(bank: Lockstepped, gated: GatedConnections) -> None:
    bank.await_equal()
    with bank.in_lockstep():
        pay(gated)
        assert "PASSED" in bank.cli("verify", "bank").stdout
        rogue(bank, Side.SERVICE, "UPDATE bank.account SET owner = owner || '?' WHERE id = 61")
        rogue(bank, Side.SERVICE, "DELETE FROM bank.entry WHERE account = 62")
        assert bank.cli("verify", "bank", expect=3).stdout
        assert "2" in bank.cli("repair", "bank").stdout
        pay(gated)
        assert verify(bank).passed
        assert bank.state() == "lockstep"


def test_a_continuous_verification_compares_what_the_audit_saw_last(bank: Lockstepped, gated: GatedConnections) -> None:
    bank.await_equal()
    seen: list[Rechecked] = []
    with bank.in_lockstep(), ThreadPoolExecutor(1) as threads:
        audited = bank.audited()
        pay(gated)
        bank.await_audited(audited + 1)
        rounds = Rounds(bank.context, bank.both, threading.Event(), on_recheck=seen.append, every_s=0.1, recheck_s=0.1)
        running = threads.submit(rounds.run)
        wait_until(lambda: running.done() or (rounds.last is not None and any(one.keys for one in seen)))
        rounds.stop.set()
        running.result()
        assert rounds.last is not None
        assert rounds.last.passed
        assert [one.differences for one in seen if one.differences] == []


@pytest.mark.parametrize("point", ["shim.prepared", "shim.decided"])
def test_a_transaction_between_its_commits_is_waited_for(
    bank: Lockstepped, gated: GatedConnections, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    bank.await_equal()
    found: list[Future[Verification]] = []
    with bank.in_lockstep(), ThreadPoolExecutor(1) as threads:

        def begin_to_verify() -> None:
            found.append(threads.submit(verify, bank))
            wait_until(lambda: found[0].done() or is_waiting_for_the_gate(bank))

        with stopped_at(monkeypatch, point, begin_to_verify):
            pay(gated)
        assert found[0].result().passed


def test_without_the_wait_it_would_be_a_false_alarm(
    bank: Lockstepped, gated: GatedConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the tests above can fail."""
    bank.await_equal()
    monkeypatch.setattr(agreed, "_hold", lambda *_: None)
    monkeypatch.setattr(agreed, "is_held", lambda *_: True)
    monkeypatch.setattr(keeper, "ORPHAN_S", 3600.0)
    found: list[set[object]] = []
    with bank.in_lockstep(), stopped_at(monkeypatch, "shim.decided", lambda: found.append(balances(bank))):
        pay(gated)
    assert len(found[0]) == 2


def balances(bank: Lockstepped) -> set[object]:
    """Of one account on both sides, as the barrier shows them."""
    with agreed.barrier(bank.context, bank.both) as barrier:
        seen: set[object] = set()
        for snapshot in (barrier.open, barrier.closed):
            with imported(snapshot, "test") as conn:
                seen.add(conn.execute("SELECT balance FROM bank.account WHERE id = 60").fetchone())
        return seen


def test_a_barrier_does_not_hold_up_the_beginning_of_lockstep(bank: Lockstepped) -> None:
    """Its driver has died, an application waits for the stream, and a slot would wait for the application."""
    bank.await_equal()
    gated = bank.connections(wait_limit_s=100)
    with bank.both.shared.connect("test") as conn, ThreadPoolExecutor(2) as threads:
        intents.request(conn, bank.name, Kind.PAUSE)
        wait_until(lambda: bool(bank.status()["worker"]["paused"]), lambda: "not paused")
        bank.cli("dual-write", "bank", "on", expect=-signal.SIGKILL, CARVEOUT_KILL_AT="lockstep.entered")
        paid = threads.submit(pay, gated)
        wait_until(lambda: is_shipping(bank), lambda: "nothing is shipped")
        found = threads.submit(verify, bank)
        wait_until(lambda: Kind.BARRIER in [one.kind for one in intents.open_intents(conn, bank.name)])
        intents.cancel(conn, bank.name, Kind.PAUSE)
        paid.result()
        assert found.result().passed
    gated.close()
    bank.cli("dual-write", "bank", "off")
    bank.await_equal()


def is_shipping(bank: Lockstepped) -> bool:
    with bank.both.shared.connect("test") as conn:
        return bool(conn.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%lockstep_collect%'"
            " AND state = 'idle in transaction'"
        ).fetchall())  # fmt: skip


def test_what_stays_prepared_is_named(bank: Lockstepped, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = bank.connections()
    path = bank.folder / "contexts" / "bank" / "context.toml"
    declared = path.read_text()
    path.write_text(f"{declared}\nbarrier_timeout_s = 0.5\n")
    with bank.in_lockstep():

        def ask() -> None:
            with pytest.raises(NoAgreement, match="prepared: carveout:bank:"), agreed.barrier(bank.context, bank.both):
                pass

        with stopped_at(monkeypatch, "shim.prepared", ask):
            pay(gated)
    path.write_text(declared)
    gated.close()


def test_there_is_no_such_moment_while_one_side_is_written(bank: Lockstepped) -> None:
    bank.await_equal()
    with pytest.raises(NotInLockstep), agreed.barrier(bank.context, bank.both):
        pass


def test_who_keeps_writers_waiting_for_long_is_ended(bank: Lockstepped, gated: GatedConnections) -> None:
    """And what it would write then is not written."""
    with (
        bank.in_lockstep(),
        rows.writer(bank.both.service) as holder,
        agreed.held(bank.context, bank.both, holder, hold_ms=200),
    ):
        rows.Held(STREAM).lock(holder)
        pay(gated)
        with pytest.raises(psycopg.Error, match="idle-in-transaction"):
            holder.execute("DELETE FROM bank.entry")
    with rows.writer(bank.both.service) as other, pytest.raises(MovedOn):
        rows.Held(STREAM).lock(other)


def test_nothing_is_repaired_once_lockstep_was_left(bank: Lockstepped, gated: GatedConnections) -> None:
    """By a driver that took over while this one held its moment: the stream applies again, and newer rows."""
    with (
        rows.writer(bank.both.service) as holder,
        bank.in_lockstep(),
        agreed.held(bank.context, bank.both, holder, hold_ms=60_000),
    ):
        with driver(bank) as other:
            phase.leave(other, "somebody else's")
        pay(gated)
        bank.await_equal()
        with pytest.raises(MovedOn):
            rows.Held(STREAM).lock(holder)
        holder.rollback()


def test_a_repair_in_lockstep_does_not_wait_for_the_applier(bank: Lockstepped) -> None:
    with (
        bank.in_lockstep(),
        bank.both.service.connect("test", autocommit=False) as applier,
        rows.writer(bank.both.service) as holder,
    ):
        applier.execute("SELECT FROM carveout.position WHERE context = 'bank' FOR UPDATE")
        with agreed.held(bank.context, bank.both, holder, hold_ms=10_000), pytest.raises(MovedOn):
            rows.Held(STREAM).lock(holder)
        applier.rollback()
