from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Connection, Database, Databases
from contexts.example import gate, ledger, seed
from contexts.example.gate import GateMaker, RouteGate
from contexts.example.ledger import Entry, Ledger, LedgerBroken, Outcome
from contexts.example.load import Load, attempt
from contexts.example.oracle import CONTEXTS, oracle
from contexts.example.transactions import EditMemo, OpenHold, Payment, Points, from_json, to_json
from contexts.model import Side

Loaded = tuple[Connection, Path]


@pytest.fixture
def shared(new_database: Callable[[int, Side], Database]) -> Database:
    database = new_database(16, Side.SHARED)
    with database.connect("test") as conn:
        seed.create(conn)
        seed.seed(conn, accounts=60, payments=500)
    return database


def run(gates: GateMaker, path: Path, transactions: int) -> Load:
    with Load(gates, Ledger(path), rate=1000) as load:
        load.wait_for(transactions)
    return load


@pytest.fixture
def loaded(shared: Database, tmp_path: Path) -> Iterator[Loaded]:
    """A database after a load of some hundred transactions, and the load's ledger."""
    path = tmp_path / "ledger"
    run(gate.always(shared.url), path, 600)
    with shared.connect("test") as conn:
        yield conn, path


def test_the_judge_passes_an_honest_load_of_every_kind(loaded: Loaded) -> None:
    conn, path = loaded
    verdict = oracle(conn, path)
    assert verdict.problems == []
    assert verdict.passed
    assert (verdict.outcomes[Outcome.UNKNOWN], verdict.unknown_happened) == (0, 0)
    assert verdict.outcomes[Outcome.ACKNOWLEDGED] >= 600
    assert verdict.entities > 100
    kinds = {(type(e.transaction).__name__, str(e.outcome)) for e in ledger.read(path).entries}
    done = ("Payment", "OpenHold", "CaptureHold", "FreeHold", "Register", "SetCardStatus", "RemoveCard", "Settle",
            "Expire", "EditMemo")  # fmt: skip
    assert kinds >= {(name, "acknowledged") for name in done}
    assert ("Payment", "rejected") in kinds


def test_nothing_to_judge_is_no_pass(shared: Database, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Load(gate.always(shared.url), Ledger(path))._prepare()
    with shared.connect("test") as conn:
        verdict = oracle(conn, path)
        assert (verdict.problems, verdict.passed) == ([], False)
        path.write_bytes(b"")
        with pytest.raises(LedgerBroken, match="no baseline of card, history, wallet"):
            oracle(conn, path)


LAST_ENTRY = (
    "(SELECT max(transaction_id::text)::uuid FROM wallet.ledger_entries WHERE memo IS DISTINCT FROM 'opening' AND"
)
LAST_ENTRY += " created_at > timestamptz '2025-01-01')"
ONE_POINT = "(SELECT max(id) FROM history.points)"
ONE_CARD = "(SELECT token FROM card.registrations ORDER BY registered_at DESC LIMIT 1)"
ONE_HOLD = "(SELECT id FROM wallet.holds WHERE state = 'captured' LIMIT 1)"
#: Damage, and the kinds of problems by which the judge must find it.
DAMAGE = {
    f"DELETE FROM wallet.ledger_entries WHERE transaction_id = {LAST_ENTRY}": {"lost", "balance"},
    f"DELETE FROM wallet.ledger_entries WHERE transaction_id = {LAST_ENTRY} AND line = 1": {
        "changed",
        "balance",
        "unbalanced",
    },
    "INSERT INTO wallet.ledger_entries (transaction_id, line, account_id, amount, currency, memo)"
    " SELECT transaction_id, line + 2, account_id, amount, currency, memo FROM wallet.ledger_entries"
    f" WHERE transaction_id = {LAST_ENTRY}": {"doubled", "balance"},
    f"UPDATE wallet.ledger_entries SET amount = amount * 2 WHERE transaction_id = {LAST_ENTRY}": {"changed", "balance"},
    f"UPDATE wallet.ledger_entries SET amount = -amount WHERE transaction_id = {LAST_ENTRY}": {"changed", "balance"},
    f"UPDATE wallet.ledger_entries SET memo = memo || ' ' WHERE transaction_id = {LAST_ENTRY}": {"changed"},
    f"UPDATE wallet.ledger_entries SET currency = 'USD' WHERE transaction_id = {LAST_ENTRY}": {"changed"},
    "UPDATE wallet.accounts SET balance = balance + 0.01, available = available + 0.01 WHERE id = 5": {"balance"},
    "UPDATE wallet.accounts SET available = available - 0.01 WHERE id = 5": {"balance"},
    "UPDATE wallet.accounts SET version = version + 1 WHERE id = 5": {"version"},
    "UPDATE wallet.accounts SET owner = 'x' WHERE id = 5": {"others"},
    "UPDATE wallet.ledger_entries SET memo = 'x' WHERE memo = 'opening' AND account_id = 7": {"others"},
    "DELETE FROM wallet.holds WHERE id = md5('hold 22')::uuid": {"others"},
    "UPDATE history.points SET memo = 'x' WHERE payment_id = md5('payment 9')::uuid": {"others"},
    "UPDATE card.registrations SET details = '{}' WHERE token = md5('card 8')::uuid": {"others"},
    "INSERT INTO history.points (payment_id, account_id, points, category) VALUES (gen_random_uuid(), 5, 1, 'other')": {
        "others"
    },
    f"UPDATE wallet.holds SET state = 'expired', capture_id = NULL WHERE id = {ONE_HOLD}": {"changed"},
    f"DELETE FROM history.points WHERE id = {ONE_POINT}": {"lost"},
    f"UPDATE history.points SET points = points + 1 WHERE id = {ONE_POINT}": {"changed"},
    f"UPDATE history.points SET memo = coalesce(memo, '') || 'x' WHERE id = {ONE_POINT}": {"changed"},
    "ALTER TABLE history.points DROP CONSTRAINT points_payment_id_key; INSERT INTO history.points"
    " (payment_id, account_id, points, state, settlement_id, category, memo)"
    " SELECT payment_id, account_id, points, state, settlement_id, category, memo FROM history.points"
    f" WHERE id = {ONE_POINT}": {"doubled"},
    "UPDATE history.settlements SET points = points + 1 WHERE number = (SELECT max(number) FROM history.settlements)": {
        "changed"
    },
    f"DELETE FROM card.registrations WHERE token = {ONE_CARD}": {"lost"},
    f"UPDATE card.registrations SET details = details || '{{\"year\": 100}}' WHERE token = {ONE_CARD}": {"changed"},
    f"UPDATE card.registrations SET fingerprint = sha256('x') WHERE token = {ONE_CARD}": {"changed"},
}  # fmt: skip


def test_the_judge_finds_every_kind_of_damage(loaded: Loaded) -> None:
    conn, path = loaded
    for damage, kinds in DAMAGE.items():
        with conn.transaction(force_rollback=True):
            conn.execute(damage.encode())
            assert {problem.kind for problem in oracle(conn, path).problems} == kinds, damage
    assert oracle(conn, path).passed


def test_a_rejected_transaction_that_is_there_is_found(loaded: Loaded) -> None:
    conn, path = loaded
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    payment = next(line["id"] for line in lines if line.get("kind") == "Payment" and is_acknowledged(lines, line["id"]))
    for line in lines:
        if line["is"] == "acknowledged" and line["id"] == payment:
            line["is"] = "rejected"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    problems = oracle(conn, path).problems
    assert ("rejected", f"wallet.ledger_entries {payment}") in {(p.kind, p.object) for p in problems}
    assert "version" in {p.kind for p in problems}


def is_acknowledged(lines: list[dict[str, object]], id_: object) -> bool:
    return any(line["is"] == "acknowledged" and line["id"] == id_ for line in lines)


PAYMENT = Payment("0d3b9a52-1111-4000-8000-000000000001", 3, 4, "1.25", "memo", Points(3, 5, "other", None))


def broken_commit(shared: Database, *, sent: bool) -> GateMaker:
    """Gates whose connection breaks at the commit, before or after the server has done it."""

    class Breaking(RouteGate):
        @contextmanager
        def transaction(self, context: str) -> Iterator[Connection]:
            conn = self._connection(shared.url)
            conn.execute("BEGIN")
            yield conn
            if sent:
                conn.execute("COMMIT")
            conn.close()
            raise psycopg.OperationalError("the connection broke")

    return lambda role: Breaking(lambda _: shared.url, role)


@pytest.mark.parametrize("sent", [True, False])
def test_a_commit_without_answer_may_have_happened_or_not(shared: Database, tmp_path: Path, sent: bool) -> None:
    path = tmp_path / "ledger"
    book = Ledger(path)
    Load(gate.always(shared.url), book)._prepare()
    for transaction, gates in (
        (OpenHold("0d3b9a52-1111-4000-8000-000000000002", "0d3b9a52-1111-4000-8000-000000000003", 5, "2.50"), None),
        (PAYMENT, broken_commit(shared, sent=sent)),
    ):
        book.attempt(transaction)
        maker = gates or gate.always(shared.url)
        outcome, reason = attempt(maker("wallet_service"), transaction)
        book.outcome(transaction, outcome, reason)
        assert (outcome is Outcome.UNKNOWN) is (gates is not None)
    with shared.connect("test") as conn:
        verdict = oracle(conn, path)
        assert verdict.problems == []
        assert (verdict.outcomes[Outcome.UNKNOWN], verdict.unknown_happened) == (1, int(sent))
        if sent:  # a half of it is not allowed, whichever half
            conn.execute("DELETE FROM history.points WHERE payment_id = %s", (PAYMENT.id,))
            assert {problem.kind for problem in oracle(conn, path).problems} == {"torn"}


def test_a_transaction_whose_line_never_came_is_unknown(loaded: Loaded) -> None:
    conn, path = loaded
    lines = path.read_bytes().splitlines(keepends=True)
    outcomes = [n for n, line in enumerate(lines) if b'"is": "acknowledged"' in line]
    last = outcomes[-1]
    # The load was killed while it wrote its last line.
    path.write_bytes(b"".join([*lines[:last], *lines[last + 1 :], lines[last][:20]]))
    verdict = oracle(conn, path)
    assert verdict.problems == []
    assert (verdict.outcomes[Outcome.UNKNOWN], verdict.unknown_happened) == (1, 1)


def test_what_breaks_before_the_commit_is_rejected(shared: Database) -> None:
    gates = gate.always(shared.url)("wallet_service")
    frozen = Payment("0d3b9a52-1111-4000-8000-000000000004", 3, 10_000, "1.00", None, None)
    assert attempt(gates, frozen) == (Outcome.REJECTED, "23503")
    assert attempt(gates, EditMemo("0d3b9a52-1111-4000-8000-000000000005", PAYMENT.id, "x")) == (
        Outcome.REJECTED,
        "42501",  # the wallet may not change points
    )
    assert attempt(gates, PAYMENT, withdraw=True) == (Outcome.REJECTED, "Withdrawn")
    nowhere = RouteGate(lambda _: "postgresql://127.0.0.1:1/x", "wallet_service")
    assert attempt(nowhere, PAYMENT) == (Outcome.REJECTED, "OperationalError")
    with shared.connect("test") as conn:
        found = conn.execute("SELECT 1 FROM wallet.ledger_entries WHERE transaction_id = %s", (PAYMENT.id,))
        assert found.fetchone() is None


def test_a_load_goes_on_over_broken_connections(shared: Database, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    load = Load(gate.always(shared.url), Ledger(path), rate=1000)
    with load, shared.connect("test") as conn:
        for _ in range(4):
            load.wait_for(150)
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename <> current_user"
            )
        load.wait_for(100)
    assert load.stats.total(Outcome.REJECTED) + load.stats.total(Outcome.UNKNOWN) > 0
    with shared.connect("test") as conn:
        assert str(oracle(conn, path)).endswith(" 0 problems")


def test_two_contexts_on_two_databases(
    new_database: Callable[[int, Side], Database], shared: Database, tmp_path: Path
) -> None:
    """The history is elsewhere: payments and their points are two transactions, and two databases are judged."""
    elsewhere = new_database(18, Side.SERVICE)
    with elsewhere.connect("test") as conn:
        seed.create(conn)
        seed.seed(conn, accounts=60, payments=500)
    where = Databases(shared, elsewhere)
    path = tmp_path / "ledger"
    run(gate.routed(lambda context: (where.service if context == "history" else where.shared).url), path, 400)
    kinds = {type(entry.transaction).__name__ for entry in ledger.read(path).entries}
    assert "LatePoint" in kinds
    with shared.connect("test") as here, elsewhere.connect("test") as there:
        verdict = oracle({"wallet": here, "history": there, "card": here}, path)
        assert verdict.problems == []
        assert verdict.passed
        assert {p.kind for p in oracle(here, path).problems} >= {"lost"}


def test_the_rate_is_kept(shared: Database, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    load = Load(gate.always(shared.url), Ledger(path), rate=200)
    with load:
        load.wait_for(300, 30)
    times = sorted(entry.ended or 0 for entry in ledger.read(path).entries)
    rate = len(times) / (times[-1] - times[0])
    # The upper bound is ours to keep; the lower one depends on the machine.
    assert 20 < rate < 230
    assert 0 < ledger.longest_pause_s(ledger.read(path), "wallet") < 30


def test_a_gate_that_waits_holds_its_services_only(shared: Database, tmp_path: Path) -> None:
    closed, asked = threading.Event(), threading.Event()
    opened = threading.Event()

    class Waiting(RouteGate):
        @contextmanager
        def transaction(self, context: str) -> Iterator[Connection]:
            if closed.is_set() and context == "card":
                asked.set()
                assert opened.wait(30)
            with super().transaction(context) as conn:
                yield conn

    path = tmp_path / "ledger"
    with Load(lambda role: Waiting(lambda _: shared.url, role), Ledger(path), rate=1000) as load:
        load.wait_for(100)
        closed.set()
        assert asked.wait(30)
        load.wait_for(100)
        opened.set()
        load.wait_for(100)
    with shared.connect("test") as conn:
        assert oracle(conn, path).passed


OTHER_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user"


def test_a_killed_load_leaves_only_unknown_ones(shared: Database, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    command = [sys.executable, "-m", "contexts.example", "load", "--ledger", str(path), "--rate", "1000"]
    environment = {**os.environ, "CARVEOUT_SHARED_URL": shared.url}
    process = subprocess.Popen([*command, "--seconds", "60"], env=environment, stdout=subprocess.DEVNULL)
    with shared.connect("test") as conn:
        for _ in range(1000):
            if conn.execute("SELECT count(*) > 100 FROM wallet.holds WHERE state = 'captured'").fetchone() == (True,):
                break
            conn.execute("SELECT pg_sleep(0.02)")
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Its sessions end a moment later, with what they were doing done or undone.
        for _ in range(1000):
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user"
            )
            if conn.execute(others).fetchone() == (0,):
                break
            conn.execute("SELECT pg_sleep(0.02)")
        verdict = oracle(conn, path)
    assert verdict.problems == []
    assert verdict.outcomes[Outcome.ACKNOWLEDGED] > 100
    judged = subprocess.run([*command[:3], "oracle", "--ledger", str(path)], env=environment, capture_output=True)
    assert (judged.returncode, b"0 problems" in judged.stdout) == (0, True)


def test_transactions_survive_their_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(PAYMENT)))) == PAYMENT


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"is": "acknowledged", "at": 1, "id": "x", "reason": ""}\n', "ledger:1: KeyError"),
        ("nonsense\n", "Expecting value"),
        ('{"is": "attempt", "at": 1, "kind": "Theft", "id": "x"}\n', "Theft"),
    ],
)
def test_a_ledger_that_makes_no_sense_is_refused(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "ledger"
    path.write_text(lines)
    with pytest.raises(LedgerBroken, match=message):
        ledger.read(path)


def test_an_outcome_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    book = Ledger(path)
    book.attempt(PAYMENT)
    assert ledger.read(path).entries == [Entry(PAYMENT, ledger.read(path).entries[0].began)]
    book.outcome(PAYMENT, Outcome.ACKNOWLEDGED)
    book.outcome(PAYMENT, Outcome.REJECTED)
    with pytest.raises(LedgerBroken, match="ended twice"):
        ledger.read(path)
    path.write_bytes(b"")
    book.attempt(PAYMENT)
    book.attempt(PAYMENT)
    with pytest.raises(LedgerBroken, match="began twice"):
        ledger.read(path)


def test_the_judge_reads_every_table_of_the_example(shared: Database) -> None:
    with shared.connect("test") as conn:
        there = conn.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('wallet', 'history', 'card')"
        )
        judged = {table for tables in CONTEXTS.values() for table in tables}
        assert {name for (name,) in there} == judged | {"wallet.accounts"}
