"""The last check of a switch keeps one budget for all tables, and says what it did not compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contexts.databases import Connection, Databases
from contexts.model import Side
from migrator.switch import procedure
from migrator.switch.lastcheck import LastCheckFailed
from tests.migrator import inprocess
from tests.migrator.driving import switch
from tests.migrator.moving import Bank

AtPoints = Callable[[dict[str, str]], None]


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Iterator[Bank]:
    made = Bank.create(tmp_path, pair)
    made.expand_variables()
    inprocess.prepare(made)
    with inprocess.worker(made):
        made.await_streaming()
        assert inprocess.verify(made).passed
        yield made


@pytest.fixture
def at_points(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Iterator[AtPoints]:
    """Run statements in a session on the side that will open, each at its point of the switch."""
    with bank.both.service.connect("test") as conn:
        yield lambda statements: monkeypatch.setattr(procedure, "kill_point", _run(conn, statements))


def _run(conn: Connection, statements: dict[str, str]) -> Callable[[str], None]:
    def reached(point: str) -> None:
        if statement := statements.get(point):
            conn.execute(statement.encode())

    return reached


def test_what_was_not_compared_is_said(bank: Bank, at_points: AtPoints) -> None:
    bank.pay(Side.SHARED, 1, 2)
    foreign = (
        "INSERT INTO carveout.recent_key (context, table_schema, table_name, columns, key)"
        " VALUES ('bank', 'bank', 'account', '{owner}', '{x}'), ('bank', 'bank', 'gone', '{id}', '{1}')"
    )
    lock = "BEGIN; LOCK TABLE bank.entry IN ACCESS EXCLUSIVE MODE"
    at_points({"switch.drained": f"{foreign}; COMMIT; {lock}", "switch.verified": "ROLLBACK"})
    report = switch(bank, Side.SERVICE)
    assert report.facts == {
        "changed_keys": 6,
        "rechecked_keys": 2,
        "not_rechecked": [
            {"table": "bank.account", "keys": 1, "why": "not comparable by the key of the stream"},
            {"table": "bank.gone", "keys": 1, "why": "not comparable by the key of the stream"},
            {"table": "bank.entry", "keys": 2, "why": "the time was over"},
        ],
    }
    assert bank.status()["last_switch"]["not_rechecked"] == report.facts["not_rechecked"]


def test_the_keys_themselves_are_read_within_the_budget(bank: Bank, at_points: AtPoints) -> None:
    bank.pay(Side.SHARED, 1, 2)
    lock = "BEGIN; LOCK TABLE carveout.recent_key IN ACCESS EXCLUSIVE MODE"
    at_points({"switch.drained": lock, "switch.verified": "ROLLBACK"})
    facts = switch(bank, Side.SERVICE).facts
    assert (facts["changed_keys"], facts["rechecked_keys"]) == (0, 0)
    assert [(missed["table"], missed["keys"]) for missed in facts["not_rechecked"]] == [
        ("bank.account", None),
        ("bank.entry", None),
    ]


def test_a_difference_sends_the_switch_back(bank: Bank, at_points: AtPoints) -> None:
    bank.pay(Side.SHARED, 1, 2)
    at_points({"switch.drained": "SET session_replication_role = replica; UPDATE bank.account SET balance = 0"})
    with pytest.raises(LastCheckFailed, match="2 rows differ at the fence"):
        switch(bank, Side.SERVICE)
    assert bank.state() == "streaming"
    assert bank.is_open(Side.SHARED)
