"""Killed at every named point, the right command goes on from there: nothing lost, nothing twice, one side open."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.killpoints import POINTS
from contexts.model import Side
from tests.migrator.commands import KILLED, run, run_killed_at
from tests.migrator.moving import Bank
from tests.migrator.payments import Payments, assert_whole, the_open_side
from tests.waiting import wait_until

OPTIONS = "max_lag_s = 60\nspool_mb = 0.02\nbatch_age_ms = 20\nswitch_deadline_ms = 4000"
Record = Callable[[str, str], None]
#: Which test of this module walks which phases.
WALKED = {
    "test_copy": ("copy",),
    "test_apply_and_verify": ("apply", "verify"),
    "test_switch_and_complete": ("switch", "complete"),
}
#: Phases that are walked by the tests of their part.
ELSEWHERE = {
    "repair": "migrator/test_repair.py",
    "traffic": "migrator/test_bouncers.py",
    "foreign": "migrator/test_foreign_tables.py",
    "tcc": "tcc/test_tcc.py",
    "outbox": "outbox/test_stream.py",
    "inbox": "outbox/test_inbox.py",
    "lockstep": "lockstep/test_crashes.py",
    "shim": "lockstep/test_crashes.py",
    "cut": "lockstep/test_across.py",
}


def points(phase: str) -> list[str]:
    """The kill points of a phase, in the order of :data:`POINTS`."""
    return [point for point in POINTS if point.startswith(f"{phase}.")]


class Table:
    """What happened at each point; printed at the end of the test run."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self.met: set[str] = set()
        self._last = time.monotonic()

    def __call__(self, point: str, outcome: str) -> None:
        now = time.monotonic()
        self.met.add(point)
        self._rows.append(f"{point:26} {outcome:64} {now - self._last:5.1f} s")
        self._last = now

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("killed at every named point")
        for row in self._rows:
            terminalreporter.write_line(row)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Table:
    made = Table()
    request.config.pluginmanager.register(made)  # the hook above is called when all tests are done
    return made


@pytest.fixture
def record(table: Table) -> Record:
    table._last = time.monotonic()
    return table


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    made = Bank.create(tmp_path, pair, options=OPTIONS)
    made.stream_large_transactions()
    run(made, "prepare", "bank", "--skip-check")
    return made


@pytest.fixture
def payments(bank: Bank) -> Iterator[Payments]:
    with Payments(bank) as paying:
        yield paying


def test_every_point_is_armed_by_some_test() -> None:
    walked = {phase for phases in WALKED.values() for phase in phases}
    assert {point.split(".")[0] for point in POINTS} == walked | ELSEWHERE.keys()
    assert points("switch").index("switch.committed") > 0
    for phase, file in ELSEWHERE.items():
        text = (Path(__file__).parents[1] / file).read_text()
        names = {name for point in points(phase) for name in [point, point.removeprefix(f"{phase}.")]}
        named = {f"{phase}.{name.removeprefix(f'{phase}.')}" for name in names if re.search(f'"{name}[":]', text)}
        assert f'startswith("{phase}.")' in text or named == set(points(phase)), f"not killed at in {file}"


def test_copy(bank: Bank, payments: Payments, record: Record) -> None:
    for point in points("copy"):
        if point == "copy.cycle_ended":  # what died at the parts may have finished them: no cycle would be left
            run(bank, "abort", "bank", "--confirm", "bank")
            run(bank, "prepare", "bank", "--skip-check")
        with bank.worker(CARVEOUT_KILL_AT=point) as worker:
            if point.startswith("copy.part_"):  # there a process of the copy dies, not the worker
                seen = bank.worker_log().count("copy process ended with -9")
                wait_until(
                    lambda seen=seen: bank.worker_log().count("copy process ended with -9") > seen,  # type: ignore[misc]
                    bank.worker_log,
                )
                worker.kill()
            else:
                assert worker.wait() == KILLED, bank.worker_log()
        assert the_open_side(bank) is Side.SHARED
        record(point, f"died; the next worker goes on ({bank.state()})")
    _to_the_end(bank, payments)


def test_apply_and_verify(bank: Bank, payments: Payments, record: Record) -> None:
    for point in points("apply"):
        with bank.worker(CARVEOUT_KILL_AT=point) as worker:
            wait_until(lambda: bank.state() == "streaming", bank.worker_log)
            if point == "apply.spooled":
                _large_transaction(bank)
            assert worker.wait() == KILLED, bank.worker_log()
        assert the_open_side(bank) is Side.SHARED
        record(point, "the worker died; the next one goes on")
    with bank.worker():
        bank.await_streaming()
        assert_whole(bank, payments)
        for point in points("verify"):
            run_killed_at(bank, point, "verify", "bank")
            run(bank, "verify", "bank")
            record(point, "verify died; run again it passes")
        _complete(bank, payments)


def test_switch_and_complete(bank: Bank, payments: Payments, record: Record) -> None:
    decided = points("switch").index("switch.committed")
    back, forward = points("switch")[:decided], points("switch")[decided:]
    with bank.worker():
        bank.await_streaming()
        run(bank, "verify", "bank")
        for verb, target in (("cutover", Side.SERVICE), ("rollback", Side.SHARED)):
            for point in back:
                run_killed_at(bank, point, verb, "bank")
                assert "the switch was undone" in run(bank, "resume", "bank").out
                assert assert_whole(bank, payments) is target.other
                bank.await_streaming()
                record(point, f"{verb} died; resume undid it, the {target.other} side is open")
            if verb == "cutover":
                run(bank, verb, "bank")
                run(bank, "verify", "bank")
        for point in forward:
            for verb, target in (("rollback", Side.SHARED), ("cutover", Side.SERVICE)):
                run_killed_at(bank, point, verb, "bank")
                assert "the switch was finished" in run(bank, "resume", "bank").out
                assert assert_whole(bank, payments) is target
                bank.await_streaming()
                run(bank, "verify", "bank")
                record(point, f"{verb} died; resume finished it, the {target} side is open")
        for point in points("complete"):
            run_killed_at(bank, point, "complete", "bank", "--confirm", "bank")
            assert the_open_side(bank) is Side.SERVICE
            record(point, "complete died; run again it goes on")
        _complete(bank, payments)


def _to_the_end(bank: Bank, payments: Payments) -> None:
    with bank.worker():
        bank.await_streaming()
        assert assert_whole(bank, payments) is Side.SHARED
        run(bank, "verify", "bank")
        run(bank, "cutover", "bank")
        assert assert_whole(bank, payments) is Side.SERVICE
        _complete(bank, payments)


def _complete(bank: Bank, payments: Payments) -> None:
    if bank.state() == "streaming":
        run(bank, "cutover", "bank")
    run(bank, "complete", "bank", "--confirm", "bank")
    assert bank.state() == "completed"
    with payments.paused():
        assert the_open_side(bank) is Side.SERVICE
        payments.assert_kept(Side.SERVICE)
    for side in Side:
        with bank.both[side].connect("test") as conn:
            left = conn.execute(
                "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            ).fetchone()
        assert left == (0,)


def _large_transaction(bank: Bank) -> None:
    with bank.both.shared.connect("test") as conn:
        conn.execute("INSERT INTO bank.entry (account, amount) SELECT 1 + g % 200, 0 FROM generate_series(1, 3000) g")


def test_every_point_was_met(request: pytest.FixtureRequest, table: Table) -> None:
    """Of the phases whose test has run: a point that nobody comes to would be missing in the table."""
    ran = {item.name for item in request.session.items if item.path == request.path}
    expected = {point for test, phases in WALKED.items() if test in ran for phase in phases for point in points(phase)}
    assert table.met == expected
