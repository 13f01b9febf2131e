"""The fence against what may stand in its way."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.control.switches import Outcome, Switch
from migrator.executor import Live
from migrator.run import Run
from migrator.steps.prepare import prepare
from migrator.switch import blockers, fence, markers
from tests.migrator.moving import Bank
from tests.waiting import wait_until

SWITCH = Switch(uuid.uuid4(), "bank", Side.SHARED, Side.SERVICE, 2, Outcome.RUNNING, driver=1)

#: Each block that catches errors takes a transaction id of its own, once it writes.
BURN_IDS = """
DO $$ BEGIN
    CREATE TEMP TABLE burnt (n int);
    FOR n IN 1 .. 100100 LOOP
        BEGIN INSERT INTO burnt VALUES (n); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
END $$
"""


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair)


def test_autovacuum_is_asked_to_leave(bank: Bank) -> None:
    run = Run(bank.context, bank.both, Live(bank.both, "test"))
    prepare(run)
    with bank.both.shared.connect("test") as conn:
        # A vacuum that would take minutes: it sleeps after every page.
        conn.execute(
            "ALTER TABLE bank.entry SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
            " autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0)"
        )
        conn.execute("INSERT INTO bank.entry (account, amount) SELECT 1, 0 FROM generate_series(1, 50000)")
        conn.execute("DELETE FROM bank.entry WHERE id % 2 = 0")
        conn.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        conn.execute("SELECT pg_reload_conf()")
        try:
            vacuums = (
                "SELECT count(*) > 0 FROM pg_stat_activity a JOIN pg_locks l USING (pid)"
                " WHERE a.backend_type = 'autovacuum worker' AND l.relation = 'bank.entry'::regclass AND l.granted"
            )
            wait_until(lambda: conn.execute(vacuums).fetchone() == (True,))
            (found,) = blockers.on_tables(run, Side.SHARED)
            assert (found.role, found.what) == ("autovacuum worker", "autovacuum")
            assert blockers.older(run, Side.SHARED) == []  # the fence makes it leave, nobody needs to wait for it
            fence.fence(run, SWITCH, markers.new("bank", "fence"), time.monotonic() + 20)
        finally:
            conn.execute("ALTER SYSTEM RESET autovacuum_naptime")
            conn.execute("SELECT pg_reload_conf()")
    assert not bank.is_open(Side.SHARED)


def test_autovacuum_against_wraparound_is_named_and_left_alone(bank: Bank) -> None:
    run = Run(bank.context, bank.both, Live(bank.both, "test"))
    prepare(run)
    with bank.both.shared.connect("test") as conn:
        conn.execute("INSERT INTO bank.entry (account, amount) SELECT 1, 0 FROM generate_series(1, 50000)")
        conn.execute(
            "ALTER TABLE bank.entry SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
            " autovacuum_freeze_max_age = 100000, autovacuum_enabled = off)"
        )
        conn.execute(BURN_IDS)
        conn.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        conn.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: any("wraparound" in one.what for one in blockers.older(run, Side.SHARED)))
            with pytest.raises(blockers.Blocked, match=r"pid \d+ \(autovacuum worker, .* against wraparound,"):
                blockers.await_none(run, Side.SHARED, patience_s=1.0, terminate=True)
            assert bank.is_open(Side.SHARED)
        finally:
            conn.execute("ALTER SYSTEM RESET autovacuum_naptime")
            conn.execute("SELECT pg_reload_conf()")
