"""Two contexts in flight at once on one shared database, and switched in one step: both or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contexts.databases import Database, Databases
from contexts.model import Side
from migrator.cli.common import run_of
from migrator.control import switches
from migrator.switch import switching
from migrator.switch.settle import OpenNotFinished
from tests.migrator.commands import run, run_killed_at
from tests.migrator.moving import REVISION, Bank
from tests.waiting import wait_until

OPTIONS = "max_lag_s = 60\nbatch_age_ms = 20\nswitch_deadline_ms = 8000\nwrite_block_budget_ms = 8000\n"
SHOP = """
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE shop.sale (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount numeric(14,2) NOT NULL);
"""
BACK = ("switch.way_back_prepared", "switch.fenced", "switch.repointed")
FORWARD = ("switch.committed", "switch.routed", "switch.finished")


@pytest.fixture
def banks(tmp_path: Path, new_database: Callable[[int, Side], Database]) -> Iterator[dict[str, Bank]]:
    shared = new_database(16, Side.SHARED)
    bank = Bank.create(tmp_path, Databases(shared, new_database(18, Side.SERVICE)), options=OPTIONS)
    shop = Bank(tmp_path, Databases(shared, new_database(18, Side.SERVICE)), "shop", bank.environment)
    bank.environment["SHOP_URL"] = shop.both.service.url
    folder = tmp_path / "contexts" / "shop"
    (folder / "schema" / "versions").mkdir(parents=True)
    (folder / "context.toml").write_text(
        f'name = "shop"\n[service]\nurl = "${{SHOP_URL}}"\n[[tables]]\nname = "shop.sale"\n[options]\n{OPTIONS}'
    )
    (folder / "schema" / "versions" / "0001_tables.py").write_text(
        REVISION.format(revision="0001_tables", down="None", statements=SHOP)
    )
    with shared.connect("test") as conn:
        conn.execute(SHOP)
        conn.execute("INSERT INTO shop.sale (amount) SELECT g FROM generate_series(1, 50) g")
    both = {"bank": bank, "shop": shop}
    with ExitStack() as stack:
        for name, one in both.items():
            run(one, "prepare", name, "--skip-check")
            stack.enter_context(one.worker())
        yield both


def prove(banks: dict[str, Bank]) -> None:
    for name, one in banks.items():
        wait_until(lambda one=one: streams(one), one.worker_log)  # type: ignore[misc]
        run(one, "verify", name)


def streams(bank: Bank) -> bool:
    found = bank.status()
    worker = found["worker"] or {}
    return found["state"] in ("streaming", "switched") and worker.get("phase") == "streaming" and worker["running"]


def open_sides(banks: dict[str, Bank]) -> dict[str, Side]:
    """The side of each context that takes writes; fails where it is not exactly one."""
    found = {}
    for name, table in (("bank", "bank.account"), ("shop", "shop.sale")):
        opened = [side for side in Side if takes_writes(banks[name], side, table)]
        assert len(opened) == 1, f"{name}: open: {opened}"
        found[name] = opened[0]
    return found


def takes_writes(bank: Bank, side: Side, table: str) -> bool:
    from psycopg import errors

    with bank.both[side].connect("test") as conn:
        try:
            conn.execute(f"DELETE FROM {table} WHERE false")
        except errors.ReadOnlySqlTransaction:
            return False
        return True


def both_on(side: Side) -> dict[str, Side]:
    return {"bank": side, "shop": side}


def test_a_commit_of_the_first_alone_is_noticed(banks: dict[str, Bank], monkeypatch: pytest.MonkeyPatch) -> None:
    commit = switches.commit
    monkeypatch.setattr(switches, "commit", lambda conn, together: commit(conn, together[:1]))
    prove(banks)
    with ExitStack() as stack:
        runs = [stack.enter_context(run_of(one.context, one.both, "test driver")) for one in banks.values()]
        with pytest.raises(OpenNotFinished, match="'carveout_shop_1' is in use"):  # its worker knows of no decision
            switching.switch_together(runs, Side.SERVICE)
    assert "is not finished" in run(banks["bank"], "resume", "bank", expect=5).err


def test_each_for_itself_and_both_together(banks: dict[str, Bank]) -> None:
    bank = banks["bank"]
    prove(banks)
    run(bank, "cutover", "shop")
    assert open_sides(banks) == {"bank": Side.SHARED, "shop": Side.SERVICE}
    bank.pay(Side.SHARED, 1, 2)
    refused = run(bank, "cutover", "bank", "shop", "--together", expect=4).err
    assert "'shop' is switched" in refused
    prove(banks)
    run(bank, "rollback", "shop")
    assert "switch in one step only" in run(bank, "cutover", "bank", "shop", expect=2).err
    for point in BACK:
        prove(banks)
        run_killed_at(bank, point, "cutover", "bank", "shop", "--together")
        assert "bank, shop: the switch was undone; the shared side is open" in run(bank, "resume", "shop").out
        assert open_sides(banks) == both_on(Side.SHARED)
    for point, verb, side in zip(
        FORWARD, ("cutover", "rollback", "cutover"), (Side.SERVICE, Side.SHARED, Side.SERVICE), strict=True
    ):
        prove(banks)
        run_killed_at(bank, point, verb, "shop", "bank", "--together")
        assert f"bank, shop: the switch was finished; the {side} side is open" in run(bank, "resume", "bank").out
        assert open_sides(banks) == both_on(side)
    prove(banks)
    said = run(bank, "rollback", "bank", "shop", "--together").out
    assert "bank, shop: the shared side is open" in said
    assert open_sides(banks) == both_on(Side.SHARED)
    bank.await_equal()
