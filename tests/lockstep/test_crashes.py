"""The application is killed between any two steps of its commit: both sides have the payment, or neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psycopg
import pytest

from contexts.killpoints import POINTS
from contexts.model import Side
from migrator.lockstep import phase
from migrator.shims.link import SyncLink
from tests.lockstep.conftest import Lockstepped
from tests.migrator.driving import driver
from tests.migrator.moving import ROOT
from tests.waiting import wait_until

SHIM = [point for point in POINTS if point.startswith("shim.")]
#: After these the shared side has committed, although the application could not say so.
DECIDED = {"shim.decided", "shim.settled"}


@pytest.mark.parametrize("point", SHIM)
def test_an_application_killed_at_every_step(bank: Lockstepped, point: str) -> None:
    with bank.in_lockstep():
        with bank.both.shared.connect("test") as conn:
            before = conn.execute("SELECT count(*) FROM bank.entry WHERE memo LIKE 'payment%'").fetchone()
        done = subprocess.run(
            [sys.executable, "-m", "tests.lockstep.application", bank.both.shared.url, bank.both.service.url, "9"],
            env={**os.environ, "CARVEOUT_KILL_AT": f"{point}:4"}, cwd=ROOT, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        acknowledged = done.stdout.splitlines()
        assert len(acknowledged) == 3
        wait_until(lambda: bank.prepared() == 0, lambda: f"{bank.prepared()} prepared")
        wait_until(lambda: bank.rows(Side.SHARED) == bank.rows(Side.SERVICE), lambda: "the sides differ")
        with bank.both.service.connect("test") as conn:
            after = conn.execute("SELECT count(*) FROM bank.entry WHERE memo LIKE 'payment%'").fetchone()
        assert before
        assert after
        assert after[0] - before[0] == 2 * (4 if point in DECIDED else 3)
        assert bank.differences() == []


def test_a_row_that_a_dead_application_has_prepared_is_free_again(bank: Lockstepped) -> None:
    """The next writer of the same row waits for the recovery, not for ever, and loses nothing."""
    gated = bank.connections()
    with bank.in_lockstep():
        subprocess.run(
            [sys.executable, "-m", "tests.lockstep.application", bank.both.shared.url, bank.both.service.url, "1"],
            env={**os.environ, "CARVEOUT_KILL_AT": "shim.decided"}, cwd=ROOT, check=False, timeout=60,
        )  # fmt: skip
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 1")
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)
    gated.close()


@pytest.mark.parametrize("point", ["lockstep.announced", "lockstep.entered", "lockstep.left"])
def test_a_driver_killed_at_every_step_leaves_one_phase_or_the_other(bank: Lockstepped, point: str) -> None:
    gated = bank.connections()
    if point == "lockstep.left":
        with driver(bank) as run:
            phase.enter(run)
    verb = "off" if point == "lockstep.left" else "on"
    done = bank.cli("dual-write", "bank", verb, expect=None, CARVEOUT_KILL_AT=point)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert bank.state() == ("lockstep" if point == "lockstep.entered" else "streaming")
    for _ in range(3):
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 7")
    gated.close()
    bank.cli("dual-write", "bank", "off")
    bank.await_equal()
    assert bank.differences() == []


def test_recovery_waits_while_the_application_is_at_work(bank: Lockstepped) -> None:
    """A transaction that takes long between PREPARE and commit is not given up."""
    gated = bank.connections()
    with bank.in_lockstep(), gated.transaction() as conn:
        conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 9")
        prepared = gated._lockstep.ship(SyncLink(conn))
        assert prepared is not None
        wait_until(lambda: _age(bank) > 2.0, lambda: f"{_age(bank)} s")
        assert bank.prepared() == 1
        prepared.undo(psycopg.errors.SerializationFailure())
        raise psycopg.Rollback
    gated.close()


def test_recovery_goes_on_when_its_connections_were_lost(bank: Lockstepped) -> None:
    gated = bank.connections()
    with bank.in_lockstep():
        for side in Side:
            with bank.both[side].connect("test") as conn:
                ended = conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'carveout/lockstep/bank'"
                ).fetchall()
                assert ended
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 10")
            assert gated._lockstep.ship(SyncLink(conn)) is not None
            raise psycopg.Rollback
        wait_until(lambda: bank.prepared() == 0, lambda: f"{bank.prepared()} prepared")
    gated.close()


def _age(bank: Lockstepped) -> float:
    with bank.both.service.connect("test") as conn:
        row = conn.execute(
            "SELECT extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts"
            " WHERE database = current_database()"
        ).fetchone()
    assert row, "it was given up"
    return float(row[0])
