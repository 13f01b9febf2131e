"""A transaction whose predecessor is committed on the shared side and still prepared on the service side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from psycopg import sql

from contexts.model import Side
from migrator.lockstep import shipping
from migrator.shims import lockstep as shim
from migrator.shims.direct import GatedConnections
from tests.lockstep.conftest import Lockstepped
from tests.migrator.inprocess import verify
from tests.waiting import wait_until

INSERT = "INSERT INTO bank.entry (account, amount, memo) VALUES (1, 0, 'in doubt')"
#: (what is still prepared, what the next transaction does to the same rows)
CASES = {
    "delete what was inserted": (INSERT, "DELETE FROM bank.entry WHERE memo = 'in doubt'"),
    "update what was inserted": (INSERT, "UPDATE bank.entry SET amount = 1 WHERE memo = 'in doubt'"),
    "insert what was deleted": (
        "DELETE FROM bank.account WHERE id = 199",
        "INSERT INTO bank.account VALUES (199, 'again', 0)",
    ),
    "delete under a key that was given": (
        "UPDATE bank.account SET id = 100198 WHERE id = 198",
        "DELETE FROM bank.account WHERE id = 100198",
    ),
}


@pytest.mark.parametrize(("first", "second"), CASES.values(), ids=CASES)
def test_the_next_writer_of_a_row_waits_for_what_is_prepared(
    bank: Lockstepped, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    bank.await_equal()
    with bank.both.shared.connect("test", session_replication_role="replica") as conn:
        conn.execute("DELETE FROM bank.entry WHERE account IN (198, 199)")
    bank.await_equal()
    one, two = bank.connections(), bank.connections()
    with ThreadPoolExecutor(1) as threads, bank.in_lockstep():
        after: list[Future[None]] = []

        def begin_the_second() -> None:
            after.append(threads.submit(_write, two, second))
            wait_until(lambda: after[0].done() or _is_applying(bank), lambda: "the second was not shipped")

        _once_decided(monkeypatch, begin_the_second)
        _write(one, first)
        after[0].result()
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)
        assert bank.differences() == []
    for gated in (one, two):
        gated.close()


def test_a_mutant_that_does_not_wait_is_found(bank: Lockstepped, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row stays on the service side: the audit cannot see that, a comparison does, and a repair mends it."""
    bank.await_equal()
    one, two = bank.connections(), bank.connections()
    with monkeypatch.context() as mutant:
        mutant.setattr(shipping, "_wait", lambda _: sql.SQL("NULL;"))
        with bank.in_lockstep():
            _once_decided(mutant, lambda: _write(two, "DELETE FROM bank.entry WHERE memo = 'in doubt'"))
            _write(one, INSERT)
            assert bank.differences() == []
            assert verify(bank).diff.differences == 1
            bank.cli("repair", "bank")
    for gated in (one, two):
        gated.close()


def _write(gated: GatedConnections, statement: str) -> None:
    with gated.transaction() as conn:
        conn.execute(statement.encode())


def _once_decided(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Between the commit on the shared side and COMMIT PREPARED, the first time."""
    done: list[str] = []

    def reached(point: str) -> None:
        if point == "shim.decided" and not done:
            done.append(point)
            action()

    monkeypatch.setattr(shim, "kill_point", reached)


def _is_applying(bank: Lockstepped) -> bool:
    return bool(bank.count(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        " AND query LIKE '%lockstep_apply%' AND pid <> pg_backend_pid()"
    ))  # fmt: skip
