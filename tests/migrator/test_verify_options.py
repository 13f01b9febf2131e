"""verify: samples, limits, giving way, and the exports of what it found."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from contexts.databases import Databases
from contexts.model import Options, Side, TableName
from migrator import comparing
from migrator import verify as verifying
from migrator.cli.progress import SegmentProgress
from migrator.comparing import Manner
from migrator.load import Load
from migrator.proof import why_not_proven
from tests.migrator import inprocess
from tests.migrator.commands import run
from tests.migrator.driving import driver
from tests.migrator.moving import Bank
from tests.migrator.payments import Payments
from tests.waiting import wait_until
from validations.diff.model import DiffOptions, Extent, Progress, Verdict


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Bank]:
    made = Bank.create(tmp_path_factory.mktemp("bank"), module_pair, accounts=20_000)
    run(made, "prepare", "bank", "--skip-check")
    with inprocess.worker(made):
        made.await_streaming()
        with made.both.shared.connect("test") as conn:
            conn.execute("ANALYZE")
        yield made


def reason(bank: Bank) -> str | None:
    with driver(bank) as at_work:
        return why_not_proven(at_work, Side.SHARED)


def test_a_sample_is_no_proof_and_says_so(bank: Bank) -> None:
    found = json.loads(run(bank, "verify", "bank", "--sample", "20", "--json").out)
    assert (found["extent"], found["sample_percent"], found["passed"]) == ("sample", 20.0, False)
    assert found["verdict"] == "equal"
    assert 0 < found["rows"] < 40_000
    assert found["invariants"] == []
    assert "SAMPLE of about 20 %, NO PROOF" in run(bank, "verify", "bank", "--sample", "20").out
    assert reason(bank) == "no full verification has been finished"
    verifying.verify(bank.context, bank.both)
    assert reason(bank) is None
    run(bank, "verify", "bank", "--sample", "1")
    assert reason(bank) is None  # neither does it take the place of one


def test_a_sample_that_sees_a_difference(bank: Bank) -> None:
    with bank.both.service.connect("test", session_replication_role="replica") as conn:
        conn.execute("UPDATE bank.account SET owner = 'x' || owner")
        try:
            assert "different" in run(bank, "verify", "bank", "--sample", "10", expect=3).out
            assert run(bank, "differences", "bank", expect=3).out.startswith("of a sample:\n")
        finally:
            conn.execute("UPDATE bank.account SET owner = substr(owner, 2)")
    assert str(reason(bank)).startswith("a later comparison found ")
    run(bank, "verify", "bank")
    assert reason(bank) is None


def test_a_time_limit_ends_it_and_the_next_goes_on(bank: Bank) -> None:
    run(bank, "verify", "bank")
    stopped = json.loads(run(bank, "verify", "bank", "--time-limit", "0.000001", "--json", expect=3).out)
    assert (stopped["finished_at"], stopped["verdict"], stopped["passed"]) == (None, "incomplete", False)
    assert reason(bank) is None  # the one before stands
    finished = json.loads(run(bank, "verify", "bank", "--json").out)
    assert (finished["verification"], finished["passed"]) == (stopped["verification"], True)
    assert reason(bank) is None


def test_exports(bank: Bank) -> None:
    with bank.both.service.connect("test", session_replication_role="replica") as conn:
        conn.execute("UPDATE bank.account SET owner = 'a,\"b' WHERE id = 7")
        conn.execute("DELETE FROM bank.account WHERE id = 8")
        run(bank, "verify", "bank", "--show-values", expect=3)
        rows = list(csv.DictReader(io.StringIO(run(bank, "differences", "bank", "--format", "csv", expect=3).out)))
        assert sorted((r["table"], r["kind"], r["key"], r["columns"], r["count"]) for r in rows) == [
            ("bank.account", "different", "7", "owner", "1"), ("bank.account", "missing_on_closed", "8", "", "1"),
        ]  # fmt: skip
        document = json.loads(run(bank, "differences", "bank", "--format", "json", expect=3).out)
        assert {d["key"][0]: (d["kind"], d["columns"]) for d in document["differences"]} == {
            "7": ("different", ["owner"]), "8": ("missing_on_closed", []),
        }  # fmt: skip
        assert document["next_steps"] == ["carveout repair bank"]
        for shape in ("text", "csv", "json", "jsonl"):
            listed = run(bank, "differences", "bank", "--format", shape, expect=3).out
            assert "owner 7" not in listed
            assert "owner 7" in run(bank, "differences", "bank", "--format", shape, "--show-values", expect=3).out
        assert "compared again: equal" in run(bank, "verify", "bank", "--repair").out
    run(bank, "verify", "bank")


def test_it_rests_only_while_others_are_active(bank: Bank) -> None:
    """A session that is at work on the open side is seen; Carveout's own are not."""
    stop = threading.Event()
    with Load(bank.both.shared, Options(throttle_active_sessions=1), stop, share=0.5) as load:
        load.rest(1e6)  # nobody is there: no rest
        assert load.limit_reached() is None
    with bank.both.shared.connect("test") as blocker, bank.both.shared.connect("test") as waiter:
        for conn in (blocker, waiter):
            conn.execute("SET application_name = 'shop'")
        blocker.execute("SELECT pg_advisory_lock(77)")
        waiting = threading.Thread(target=lambda: waiter.execute("SELECT pg_advisory_lock(77)"))
        waiting.start()
        wait_until(lambda: blocker.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount == 1)
        with Load(bank.both.shared, Options(throttle_active_sessions=1), stop, share=0.5) as load:
            resting = threading.Thread(target=load.rest, args=(1e6,))
            resting.start()
            assert (
                load.limit_reached() == "2 active sessions on the open side (limit 1)" or load.limit_reached() is None
            )
            assert resting.is_alive()
            blocker.execute("SELECT pg_advisory_unlock(77)")
            resting.join(20)
            assert not resting.is_alive()
        waiting.join()


def test_beyond_a_limit_it_holds_no_snapshot_and_compares_nothing(bank: Bank) -> None:
    class Busy(Load):
        asked = 0

        def limit_reached(self) -> str | None:
            Busy.asked += 1
            return "busy" if 2 <= Busy.asked <= 4 else None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparing, "Load", Busy)
        found = verifying.verify(bank.context, bank.both)
    assert Busy.asked > 4
    assert (found.diff.extent, found.diff.verdict) == (Extent.FULL, Verdict.EQUAL)


def test_progress_says_how_long_the_rest_takes() -> None:
    shown = SegmentProgress()
    began = shown._began
    progress = Progress(TableName("bank", "account"), 1, 2, 10, 0, 1, 4)
    shown(progress)
    assert shown.line(progress, began + 5) == "1/4 segments, 0 differences in bank.account, ~15 s left"


def test_each_group_of_segments_has_a_barrier_of_its_own(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(DiffOptions, workers=1, range_rows=1000, ranges_per_segment=5)
    monkeypatch.setattr(comparing, "DiffOptions", small)
    with Payments(bank, accounts=20_000):
        found = verifying.verify(bank.context, bank.both, Manner(max_snapshot_age_s=0.0))
    assert found.passed
    with bank.both.service.connect("test") as conn:
        barriers, segments = conn.execute(
            "SELECT count(DISTINCT lsn), count(*) FROM carveout.verification_segment WHERE verification = %s",
            (found.diff.verification,),
        ).fetchall()[0]
    assert barriers == segments >= 8


def test_nothing_is_never_green(bank: Bank) -> None:
    with bank.both.shared.connect("test") as conn:
        conn.execute("TRUNCATE bank.account, bank.entry")
    bank.await_equal()
    for options in ((), ("--sample", "50")):
        found = json.loads(run(bank, "verify", "bank", *options, "--json", expect=3).out)
        assert (found["verdict"], found["passed"], found["rows"]) == ("nothing_compared", False, 0)
    assert "nothing_compared" in str(reason(bank))
