"""Stream rules, judged on the real change stream of a shared database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from cdc.apply import Applier
from contexts.databases import Databases
from contexts.errors import ExitCode, StreamStopped
from contexts.model import Options, Side
from contexts.rules import Rule
from tests.apply.conftest import STREAM, World
from validations import rules
from validations.rules import store
from validations.rules.checker import RuleBroken, RuleChecker
from validations.rules.model import Recorded

SCHEMA = """
CREATE TABLE entry (id bigint PRIMARY KEY, tx text NOT NULL, currency text NOT NULL, amount numeric);
CREATE TABLE point (
    id bigint PRIMARY KEY, state text, settlement text, points int, version bigint NOT NULL DEFAULT 0, memo text
);
ALTER TABLE point ALTER memo SET STORAGE EXTERNAL;
ALTER TABLE point ALTER settlement SET STORAGE EXTERNAL;
"""
DOUBLE_ENTRY = {
    "name": "double_entry", "kind": "balance", "table": "entry", "column": "amount", "group_by": ["tx", "currency"],
}  # fmt: skip
STATES = {
    "name": "states", "kind": "transitions", "table": "point", "column": "state", "initial": ["pending"],
    "allowed": {"pending": ["confirmed", "expired"]},
}  # fmt: skip
SETTLED = {
    "name": "settled", "kind": "required", "table": "point", "when": {"state": "confirmed"},
    "columns": ["settlement"],
}  # fmt: skip
AMOUNT = {"name": "amount", "kind": "immutable", "table": "point", "columns": ["points"]}
VERSION = {"name": "version", "kind": "monotonic", "table": "point", "column": "version"}
LEDGER = {"name": "ledger", "kind": "append_only", "table": "entry"}
ALL = (DOUBLE_ENTRY, STATES, SETTLED, AMOUNT, VERSION, LEDGER)
LONG = "repeat('s', 5000)"


class Ruled(World):
    """A stream whose applier has a checker."""

    def begin(self, *declared: dict[str, Any], policy: str = "report") -> Applier:
        self.declared = [TypeAdapter(Rule).validate_python({**one, "policy": policy}) for one in declared]
        return self.start("entry", "point", observers=[self.checker()])

    def again(self, **more: Any) -> Applier:
        """A new applier, as after a restart."""
        self.applier.close()
        return self.open(observers=[self.checker()], **more)

    def checker(self) -> RuleChecker:
        return RuleChecker(STREAM, self.declared, self.pair.service)

    def found(self) -> list[Recorded]:
        return store.read(self.service, STREAM.context, Side.SERVICE)

    def broken(self) -> list[tuple[str, int, list[dict[str, str | None]]]]:
        """Rule, count and keys of every violation."""
        return [(one.violation.rule, one.violation.count, one.violation.keys) for one in self.found()]


@pytest.fixture
def ruled(pair: Databases) -> Iterator[Ruled]:
    made = Ruled(pair)
    made.both(SCHEMA)
    rules.install(pair.service)
    yield made
    made.applier.close()
    made.shared.close()
    made.service.close()


def insert(*values: str) -> str:
    return f"INSERT INTO point VALUES ({', '.join(values)})"


def test_what_keeps_all_rules_is_not_recorded(ruled: Ruled) -> None:
    ruled.begin(*ALL)
    ruled.write(
        "INSERT INTO entry VALUES (1, 'a', 'EUR', -10.10), (2, 'a', 'EUR', 10.10)",
        "INSERT INTO entry VALUES (3, 'b', 'EUR', -0.1), (4, 'b', 'EUR', -0.2), (5, 'b', 'EUR', 0.3)",
        insert("1", "'pending'", "NULL", "5"),
    )
    ruled.write(f"UPDATE point SET state = 'confirmed', settlement = {LONG}, version = 2")
    ruled.write("UPDATE point SET memo = 'new', version = version + 1")
    ruled.replicate()
    assert ruled.broken() == []
    assert len(ruled.same("public.entry", "public.point")) == 6


#: What is wrong, the rows, and the groups that do not sum to zero.
UNBALANCED = {
    "one cent": ("(1, 'one cent', 'EUR', -10.10), (2, 'one cent', 'EUR', 10.11)", "EUR"),
    "currency": ("(3, 'currency', 'EUR', -1), (4, 'currency', 'USD', 1)", "EUR USD"),
    "float": ("(5, 'float', 'EUR', -9007199254740993), (6, 'float', 'EUR', 9007199254740992)", "EUR"),
    "28 digits": ("(7, '28 digits', 'EUR', -1e40), (8, '28 digits', 'EUR', 1e40 + 1e-10)", "EUR"),
    "no number": ("(9, 'no number', 'EUR', 'NaN'), (10, 'no number', 'EUR', 0)", "EUR"),
    "doubled": ("(11, 'doubled', 'EUR', -1), (12, 'doubled', 'EUR', 1), (13, 'doubled', 'EUR', 1)", "EUR"),
    "balanced": ("(14, 'balanced', 'EUR', -1), (15, 'balanced', 'EUR', 1.00)", ""),
}


def test_unbalanced_transactions(ruled: Ruled) -> None:
    ruled.begin(DOUBLE_ENTRY)
    for values, _ in UNBALANCED.values():
        ruled.write(f"INSERT INTO entry VALUES {values}")
    ruled.replicate()
    expected = {what: groups.split() for what, (_, groups) in UNBALANCED.items() if groups}
    found = {str(keys[0]["tx"]): [key["currency"] for key in keys] for _, _, keys in ruled.broken()}
    assert found == expected


def test_each_transaction_is_balanced_for_itself(ruled: Ruled) -> None:
    ruled.begin(DOUBLE_ENTRY)
    ruled.write("INSERT INTO entry VALUES (1, 'a', 'EUR', -1)")
    ruled.write("INSERT INTO entry VALUES (2, 'a', 'EUR', 1)")
    ruled.replicate()
    assert [rule for rule, *_ in ruled.broken()] == ["double_entry", "double_entry"]
    first, second = (one.violation for one in ruled.found())
    assert first.commit_lsn < second.commit_lsn
    assert first.xid != second.xid


BROKEN_ROWS = [
    ("back", "UPDATE point SET state = 'pending' WHERE id = 1", "states"),
    ("across", "UPDATE point SET state = 'expired' WHERE id = 1", "states"),
    ("to nothing", "UPDATE point SET state = NULL WHERE id = 2", "states"),
    ("born confirmed", f"INSERT INTO point VALUES (3, 'confirmed', {LONG}, 1)", "states"),
    ("unsettled", "UPDATE point SET state = 'confirmed' WHERE id = 2", "settled"),
    ("settlement lost", "UPDATE point SET settlement = NULL WHERE id = 1", "settled"),
    ("another amount", "UPDATE point SET points = 6 WHERE id = 1", "amount"),
    ("amount lost", "UPDATE point SET points = NULL WHERE id = 1", "amount"),
    ("version back", "UPDATE point SET version = 8 WHERE id = 1", "version"),
    ("ledger changed", "UPDATE entry SET amount = amount WHERE id = 1", "ledger"),
    ("ledger deleted", "DELETE FROM entry WHERE id = 1", "ledger"),
    ("under a new key", "UPDATE point SET id = 7, state = 'pending' WHERE id = 1", "states"),
]


FULL_IDENTITY = [("full: " + what, statement, rule) for what, statement, rule in BROKEN_ROWS if rule == "states"]
CASES = BROKEN_ROWS + FULL_IDENTITY[-2:]


@pytest.mark.parametrize(("what", "statement", "rule"), CASES, ids=[case[0] for case in CASES])
def test_a_row_that_breaks_a_rule(ruled: Ruled, what: str, statement: str, rule: str) -> None:
    if what.startswith("full"):
        ruled.both("ALTER TABLE point REPLICA IDENTITY FULL")
    ruled.both(f"INSERT INTO point VALUES (1, 'confirmed', {LONG}, 5, 9), (2, 'pending', NULL, 5, 9)")
    ruled.both("INSERT INTO entry VALUES (1, 'a', 'EUR', -1), (2, 'a', 'EUR', 1)")
    ruled.begin(*ALL)
    ruled.write(statement)
    ruled.replicate()
    ((found, count, keys),) = ruled.broken()
    assert (found, count) == (rule, 1)
    assert keys[0]["id"] in {"1", "2", "3", "7"}


def test_the_former_row_is_followed_through_one_batch(ruled: Ruled) -> None:
    ruled.begin(STATES)
    ruled.write(insert("1", "'pending'"), insert("2", "'pending'"))
    ruled.write("UPDATE point SET state = 'confirmed' WHERE id = 1")
    ruled.write("UPDATE point SET state = 'pending' WHERE id = 1", "UPDATE point SET state = 'expired' WHERE id = 2")
    ruled.write("TRUNCATE point", insert("1", "'pending'"))
    ruled.write("UPDATE point SET state = 'expired' WHERE id = 1")
    ruled.replicate()
    assert ruled.broken() == [("states", 1, [{"id": "1"}])]


def test_chunks_of_one_transaction_are_judged_as_one(ruled: Ruled) -> None:
    ruled.begin(DOUBLE_ENTRY, STATES)
    ruled.again(options=Options(batch_age_ms=3_600_000, batch_rows=100))
    ruled.write(
        "INSERT INTO entry SELECT g, 'a', 'EUR', CASE g WHEN 1 THEN -999 ELSE 1 END FROM generate_series(1, 1000) g",
        "INSERT INTO point SELECT g, 'pending' FROM generate_series(1, 1000) g",
        "UPDATE point SET state = 'expired'",
        "UPDATE point SET state = 'pending' WHERE id > 900",
    )
    ruled.replicate()
    ((rule, count, keys),) = ruled.broken()
    assert (rule, count, len(keys)) == ("states", 100, 20)


def test_a_truncated_ledger(ruled: Ruled) -> None:
    ruled.both("INSERT INTO entry VALUES (1, 'a', 'EUR', 0)")
    ruled.begin(LEDGER)
    ruled.write("TRUNCATE entry")
    ruled.replicate()
    assert ruled.broken() == [("ledger", 1, [{}])]


def test_a_stop_lets_nothing_of_the_transaction_pass_until_it_is_accepted(ruled: Ruled) -> None:
    ruled.begin(DOUBLE_ENTRY, policy="stop")
    ruled.write("INSERT INTO entry VALUES (1, 'a', 'EUR', -1), (2, 'a', 'EUR', 1)")
    ruled.write("INSERT INTO entry VALUES (3, 'b', 'EUR', -1), (4, 'b', 'EUR', 2)")
    transactions = ruled.read()
    for again in range(2):  # a worker that is started again meets it again, and it is recorded once
        with pytest.raises(RuleBroken, match=r"double_entry of public\.entry 1 times: tx=b currency=EUR") as stopped:
            _apply(ruled.applier, transactions)
        assert stopped.value.exit_code is ExitCode.NEEDS_HUMAN
        assert stopped.value.applicable_until == transactions[1].commit_lsn
        assert ruled.rows(ruled.service, "public.entry") == [], again
        ruled.again()
    (found,) = ruled.found()
    assert (found.stops, found.applied_at, stopped.value.next_step) == (
        True, None, f"carveout rules accept wallet {found.id}",
    )  # fmt: skip
    assert not store.accept(ruled.service, "other", found.number, None)
    assert store.accept(ruled.service, "wallet", found.number, "a correction")
    assert not store.accept(ruled.service, "wallet", found.number, "again")
    (accepted,) = ruled.found()
    assert (accepted.accepted_by, accepted.reason, accepted.stops) == ("postgres", "a correction", False)
    ruled.again()
    _apply(ruled.applier, transactions)
    assert len(ruled.same("public.entry")) == 4
    (found,) = ruled.found()
    assert found.applied_at is not None


def test_a_violation_is_there_as_often_as_its_rows(ruled: Ruled) -> None:
    ruled.begin(DOUBLE_ENTRY)
    ruled.write("INSERT INTO entry VALUES (3, 'b', 'EUR', -1), (4, 'b', 'EUR', 2)")
    transactions = ruled.read()
    ruled.applier.apply(transactions[0])
    ruled.again()  # the batch was never committed
    assert ruled.found() == []
    for _ in range(2):
        ruled.applier.apply(transactions[0])
        ruled.applier.commit()
        ruled.again()
    assert [(one.violation.rule, one.violation.count) for one in ruled.found()] == [("double_entry", 1)]
    assert store.count(ruled.service, "wallet") == 1
    assert store.count(ruled.shared, "wallet") == 0  # no such table there


def test_a_rule_whose_column_is_gone_stops_the_stream(ruled: Ruled) -> None:
    ruled.begin({**AMOUNT, "columns": ["nowhere"]})
    ruled.write(insert("1", "'pending'"))
    with pytest.raises(StreamStopped, match="does not carry nowhere"):
        ruled.replicate()


def test_a_partition_is_judged_by_the_rules_of_its_root(pair: Databases) -> None:
    ruled = Ruled(pair)
    ruled.both(
        "CREATE TABLE entry (id bigint PRIMARY KEY, amount numeric) PARTITION BY RANGE (id);"
        "CREATE TABLE entry_1 PARTITION OF entry FOR VALUES FROM (1) TO (100);"
        "CREATE TABLE point (id int PRIMARY KEY)"
    )
    rules.install(pair.service)
    ruled.begin({**DOUBLE_ENTRY, "group_by": []})
    ruled.write("INSERT INTO entry VALUES (1, 1), (2, 1)")
    ruled.replicate()
    assert ruled.broken() == [("double_entry", 1, [{}])]
    assert str(ruled.found()[0].violation.table) == "public.entry"
    ruled.applier.close()


def _apply(applier: Applier, transactions: list[Any]) -> None:
    for one in transactions:
        applier.apply(one)
    applier.commit()
