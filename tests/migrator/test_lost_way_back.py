"""A way back that is lost, at the end of its bounded time: said loudly, and rollback refuses with the reason."""

from __future__ import annotations

from pathlib import Path

from contexts.databases import Databases
from contexts.model import Side
from tests.migrator import inprocess
from tests.migrator.commands import run
from tests.migrator.driving import switch
from tests.migrator.moving import Bank
from tests.waiting import wait_until

OPTIONS = "reverse_window_h = 0.000001\nreverse_keep_mb = 0.5\nwatch_interval_s = 0.2"
LOST = "slot 'carveout_bank_2' is gone from the service side"


def test_a_way_back_that_died_is_said_loudly(tmp_path: Path, pair: Databases) -> None:
    bank = Bank.create(
        tmp_path, pair, options="reverse_window_h = 0.000001\nreverse_keep_mb = 0.5\nwatch_interval_s = 0.2"
    )
    bank.expand_variables()
    inprocess.prepare(bank)
    with bank.worker() as worker:
        bank.await_streaming()
        inprocess.verify(bank)
        switch(bank, Side.SERVICE)
        bank.await_streaming()
        assert "its time was over at" in run(bank, "status", "bank").out
        assert run(bank, "status", "bank").out.splitlines()[-1] == "  next: carveout complete bank"
        assert "`carveout complete bank`" in run(bank, "doctor", "bank").out
        run(bank, "pause", "bank")  # now the log piles up
        with pair.service.connect("test") as conn:
            conn.execute("INSERT INTO bank.entry (account, amount, memo)"
                         " SELECT 1, 0, repeat('x', 900) FROM generate_series(1, 2000)")  # fmt: skip
            slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            wait_until(lambda: conn.execute(slots).fetchone() == (0,), bank.worker_log)
        run(bank, "resume", "bank")
        assert worker.wait() == 5
    status = run(bank, "status", "bank").out
    assert f"NO WAY BACK: {LOST}" in status
    assert status.splitlines()[-1] == "  next: carveout complete bank"
    assert (
        "there is no way back: slot 'carveout_bank_2' is gone from the service side"
        in run(bank, "rollback", "bank", expect=4).err
    )
    said = run(bank, "doctor", "bank", expect=5).out
    assert "so there is no way back: the service side stays open, `carveout complete bank` ends it" in said
    with pair.shared.connect("test") as conn:
        row = conn.execute("SELECT detail ->> 'finding' FROM carveout.event WHERE kind = 'way_back'").fetchone()
    assert row
    assert row[0].startswith("the way back is given up: its time was over at")
    run(bank, "complete", "bank", "--confirm", "bank")
