"""Whatever a transaction does on the shared side is on the service side when its commit returns."""

from __future__ import annotations

import psycopg
import pytest

from contexts.model import Side
from migrator.shims.direct import GatedConnections
from tests.lockstep.conftest import Lockstepped

STATEMENTS = {
    "insert": ["INSERT INTO bank.entry (account, amount, memo) VALUES (1, 2.50, NULL), (2, -2.50, '')"],
    "update": ["UPDATE bank.account SET balance = balance + 1 WHERE id IN (3, 4)"],
    "bulk update": ["UPDATE bank.account SET owner = owner || '!'"],
    "delete": ["DELETE FROM bank.entry WHERE id = 5"],
    "key change": [
        "DELETE FROM bank.entry WHERE account = 150",
        "UPDATE bank.account SET id = id + 100000 WHERE id = 150",
    ],
    "key swap": [
        "DELETE FROM bank.entry WHERE account IN (10, 11)",
        "UPDATE bank.account SET id = -1 WHERE id = 10",
        "UPDATE bank.account SET id = 10 WHERE id = 11",
        "UPDATE bank.account SET id = 11 WHERE id = -1",
    ],
    "insert and delete": [
        "INSERT INTO bank.account VALUES (777, 'brief', 0)",
        "DELETE FROM bank.account WHERE id = 777",
    ],
    "delete and insert": [
        "DELETE FROM bank.entry WHERE account = 20",
        "DELETE FROM bank.account WHERE id = 20",
        "INSERT INTO bank.account VALUES (20, 'again', 7.00)",
    ],
    "upsert": [
        "INSERT INTO bank.account VALUES (21, 'x', 1), (888, 'y', 1)"
        " ON CONFLICT (id) DO UPDATE SET balance = account.balance + excluded.balance"
    ],
    "merge": [
        "MERGE INTO bank.account a USING (VALUES (22::bigint), (889)) v (id) ON a.id = v.id"
        " WHEN MATCHED THEN UPDATE SET balance = 3 WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'merged', 0)"
    ],
    "data-modifying with": [
        "WITH gone AS (DELETE FROM bank.entry WHERE id IN (30, 31) RETURNING account, amount)"
        " INSERT INTO bank.entry (account, amount, memo) SELECT account, amount, 'moved' FROM gone"
    ],
    "savepoint rolled back": [
        "SAVEPOINT s", "UPDATE bank.account SET owner = 'never' WHERE id = 40", "ROLLBACK TO s",
        "UPDATE bank.account SET owner = 'ever' WHERE id = 41",
    ],
    "function": [
        "DO $$ BEGIN FOR i IN 50..60 LOOP UPDATE bank.account SET balance = i WHERE id = i; END LOOP; END $$"
    ],
    "many statements": [
        "DO $$ BEGIN FOR i IN 1..1500 LOOP INSERT INTO bank.entry (account, amount) VALUES (1 + i % 100, i);"
        " END LOOP; END $$",
        "UPDATE bank.account SET owner = 'few' WHERE id IN (71, 72)",
    ],
    "many rows rolled back": [
        "UPDATE bank.account SET owner = 'before' WHERE id = 73", "SAVEPOINT s",
        "UPDATE bank.account SET owner = owner || '?'", "ROLLBACK TO s",
        "UPDATE bank.account SET owner = 'after' WHERE id = 74",
    ],
    "session settings": ["SET LOCAL datestyle = 'SQL, DMY'", "UPDATE bank.account SET owner = 'set' WHERE id = 70"],
}  # fmt: skip


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS)
def test_both_sides_are_equal_when_the_commit_returns(
    bank: Lockstepped, gated: GatedConnections, statements: list[str]
) -> None:
    bank.await_equal()
    with bank.in_lockstep():
        audited = bank.audited()
        with gated.transaction() as conn:
            for statement in statements:
                conn.execute(statement.encode())
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)
        assert bank.prepared() == 0
        bank.await_audited(audited + 1)
        assert bank.differences() == []


def test_copy_from(bank: Lockstepped, gated: GatedConnections) -> None:
    with bank.in_lockstep():
        with (
            gated.transaction() as conn,
            conn.cursor().copy("COPY bank.entry (account, amount, memo) FROM STDIN") as to,
        ):
            for n in range(2500):
                to.write_row((1 + n % 100, f"{n}.10", f"copied {n}\t\\ '\""))
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)


def test_a_transaction_that_writes_nothing_is_on_no_other_side(bank: Lockstepped, gated: GatedConnections) -> None:
    with bank.in_lockstep():
        with gated.transaction() as conn:
            conn.execute("SELECT 1")
            conn.execute("UPDATE bank.account SET balance = 0 WHERE false")
        assert bank.prepared() == 0


def test_truncate_is_refused(bank: Lockstepped, gated: GatedConnections) -> None:
    refused = pytest.raises(psycopg.errors.FeatureNotSupported, match="TRUNCATE")
    with bank.in_lockstep(), refused, gated.transaction() as conn:
        conn.execute("TRUNCATE bank.entry")


def test_who_does_not_use_the_shim_is_refused(bank: Lockstepped) -> None:
    with bank.in_lockstep(), pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="through the shim"):
        bank.pay(Side.SHARED, 1, 2)
    bank.pay(Side.SHARED, 1, 2)
    bank.await_equal()
