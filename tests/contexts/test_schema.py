from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from contexts import schema
from contexts.databases import Database, Databases
from contexts.errors import CarveoutError, ConfigError, DifferencesFound
from contexts.example import seed
from contexts.loader import load_context, load_project
from contexts.model import Context, Options
from contexts.scaffold import render
from migrator.cli import cli
from validations.invariants import files
from validations.invariants.model import Invariant, Kind

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wallet(pair: Databases) -> tuple[Databases, Context]:
    """The example's shared database, an empty service database, and the context wallet."""
    with pair.shared.connect("test") as conn:
        seed.create(conn)
    return pair, load_context(load_project(ROOT), "wallet")


@pytest.mark.parametrize("name", ["wallet", "history", "card"])
def test_the_examples_revisions_are_what_the_scaffold_writes(wallet: tuple[Databases, Context], name: str) -> None:
    sides, _ = wallet
    context = load_context(load_project(ROOT), name)
    with sides.shared.connect("test") as conn:
        generated = render(conn, context)
    for path in (path for path in generated if path.suffix == ".py"):
        assert generated[path] == (context.folder / path).read_text(), path
    schema.upgrade(sides.service, context)
    assert schema.check(sides, context).passed


def test_the_examples_invariants_hold_and_say_what_they_prove(wallet: tuple[Databases, Context]) -> None:
    sides, context = wallet
    with sides.shared.connect("test") as conn:
        seed.seed(conn, accounts=50, payments=400)
        for invariant in _invariants(context):
            assert "-- severity: " in invariant.sql, invariant.name
            assert "-- sides: " in invariant.sql, invariant.name
            rows = conn.execute(invariant.sql.encode()).fetchall()
            assert rows == [] if invariant.kind is Kind.ROWS else rows[0][0] > 0, invariant.name


def _invariants(context: Context) -> list[Invariant]:
    return [files.read(path) for path in sorted(context.folder.parent.glob("*/invariants/*.sql"))]


BROKEN = {
    "balance_is_sum_of_entries": "UPDATE wallet.accounts SET balance = balance + 0.01 WHERE id = 2",
    "ledger_sums_to_zero": "UPDATE wallet.ledger_entries SET amount = amount + 0.01 WHERE id = 1",
    "no_balance_is_below_its_holds": "UPDATE wallet.holds SET amount = 100000 WHERE state = 'open'",
    "total_of_balances": "UPDATE wallet.accounts SET balance = balance + 0.01 WHERE id = 2",
    "total_of_holds": "UPDATE wallet.holds SET state = 'released' WHERE state = 'open'",
    "turnover": "UPDATE wallet.ledger_entries SET amount = amount + 0.01 WHERE amount > 0",
    "total_of_points": "UPDATE history.points SET points = points + 1 WHERE state = 'confirmed'",
    "transactions_sum_to_zero": "UPDATE wallet.ledger_entries SET amount = amount + 0.01 WHERE id = 1",
    "available_is_balance_less_holds": "UPDATE wallet.accounts SET available = available - 0.01 WHERE id = 2",
    "captured_holds_are_in_the_ledger": "UPDATE wallet.holds SET state = 'captured', capture_id = gen_random_uuid()"
    " WHERE state = 'open'",
    "entries_have_their_accounts_currency": "UPDATE wallet.ledger_entries SET currency = 'USD' WHERE id = 1",
    "settlement_is_sum_of_points": "UPDATE history.points SET points = points + 1 WHERE state = 'confirmed'",
    "confirmed_points_have_a_settlement": "ALTER TABLE history.points DROP CONSTRAINT points_settlement_id_fkey;"
    " DELETE FROM history.settlements",
    "one_point_per_payment": "ALTER TABLE history.points DROP CONSTRAINT points_payment_id_key;"
    " INSERT INTO history.points (payment_id, account_id, points, category)"
    " SELECT payment_id, account_id, points, category FROM history.points LIMIT 1",
}


def test_each_invariant_finds_what_breaks_it(wallet: tuple[Databases, Context]) -> None:
    sides, context = wallet
    invariants = {invariant.name: invariant.sql.encode() for invariant in _invariants(context)}
    assert invariants.keys() == BROKEN.keys()
    with sides.shared.connect("test") as conn:
        seed.seed(conn, accounts=50, payments=400)
        for name, damage in BROKEN.items():
            before = conn.execute(invariants[name]).fetchall()
            with conn.transaction(force_rollback=True):
                conn.execute(damage.encode())
                assert conn.execute(invariants[name]).fetchall() != before, name


def test_what_the_plan_shows_is_what_an_upgrade_does(wallet: tuple[Databases, Context]) -> None:
    sides, context = wallet
    tables, everything = schema.plan(sides.service, context, "tables"), schema.plan(sides.service, context)
    assert "CREATE TABLE wallet.accounts" in tables
    assert "ledger_entries_account" not in tables
    assert schema.current(sides.service, context) == ()  # nothing was run
    with sides.service.connect("test") as conn:
        conn.execute(everything.encode())
    assert schema.current(sides.service, context) == ("0002",)
    assert schema.check(sides, context).passed
    assert "CREATE TABLE" not in schema.plan(sides.service, context)


def test_a_revision_waits_for_its_locks_and_lets_others_through(wallet: tuple[Databases, Context]) -> None:
    sides, context = wallet
    context = context.model_copy(update={"options": Options(lock_timeout_ms=50)})
    schema.upgrade(sides.service, context, "tables")
    with sides.service.connect("test") as writer:
        with writer.transaction():
            writer.execute("INSERT INTO wallet.accounts (owner, currency) VALUES ('a', 'EUR')")
            with pytest.raises(schema.TablesBusy, match="were in use") as busy:
                schema.upgrade(sides.service, context, patience_s=0.2)
            assert busy.value.transient
            done = threading.Thread(target=schema.upgrade, args=(sides.service, context))
            done.start()
            wait_for_a_waiting_lock(sides.service)
            # The upgrade waits for our lock on accounts and holds none that we want: no deadlock.
            writer.execute("INSERT INTO wallet.holds (account_id, amount, expires_at) VALUES (1, 1, now())")
        done.join(30)
    assert schema.current(sides.service, context) == ("0002",)


def wait_for_a_waiting_lock(database: Database) -> None:
    with database.connect("test") as conn:
        for _ in range(1000):
            if conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                return
            conn.execute("SELECT pg_sleep(0.005)")
    pytest.fail("the upgrade never waited")


def test_a_revision_that_fails_changes_nothing_and_is_named(wallet: tuple[Databases, Context], tmp_path: Path) -> None:
    sides, context = wallet
    versions = tmp_path / "schema" / "versions"
    versions.mkdir(parents=True)
    for path in (context.folder / "schema" / "versions").glob("*.py"):
        (versions / path.name).write_text(path.read_text())
    last = versions / "0002_indexes_and_constraints.py"
    last.write_text(last.read_text().replace("UNIQUE (capture_id)", "UNIQUE (capture)"))
    broken = context.model_copy(update={"folder": tmp_path})
    with pytest.raises(schema.RevisionFailed, match=r'column "capture" .* does not exist') as error:
        schema.upgrade(sides.service, broken)
    assert "none was applied" in error.value.unchanged
    assert schema.current(sides.service, context) == ()
    with sides.service.connect("test") as conn:
        assert conn.execute("SELECT pg_catalog.to_regclass('wallet.accounts')").fetchone() == (None,)


def test_a_context_without_revisions_is_refused(wallet: tuple[Databases, Context], tmp_path: Path) -> None:
    sides, context = wallet
    with pytest.raises(ConfigError, match="holds no revision"):
        schema.upgrade(sides.service, context.model_copy(update={"folder": tmp_path}))


@pytest.fixture
def shell(
    pair: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, CarveoutError | None]]:
    """Runs the command line in an empty folder: what it printed, and the error it ended with."""
    with pair.shared.connect("test") as conn:
        seed.create(conn)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARVEOUT_SHARED_URL", pair.shared.url)
    monkeypatch.setenv("HISTORY_URL", pair.service.url)

    def run(*arguments: str) -> tuple[str, CarveoutError | None]:
        done = CliRunner().invoke(cli, arguments)
        error = done.exception
        assert error is None or isinstance(error, CarveoutError), (error, done.output)
        return done.stdout, error

    return run


def test_from_nothing_to_a_service_database(
    shell: Callable[..., tuple[str, CarveoutError | None]], pair: Databases
) -> None:
    assert shell("init")[0].startswith("wrote carveout.toml")
    new = ("context", "new", "history", "--tables", "history.points, history.settlements",
           "--role", "history_service=select,INSERT", "--role", "ledger_reader=select",
           "--url-env", "HISTORY_URL")  # fmt: skip
    shown, _ = shell(*new, "--dry-run")
    assert "--- contexts/history/schema/versions/0001_tables.py" in shown
    assert not Path("contexts/history").exists()
    shown, _ = shell(*new)
    assert "wrote contexts/history/context.toml" in shown
    assert "points_account_id_fkey of history.points: references wallet.accounts" in shown
    context = load_context(load_project(Path.cwd()), "history")
    assert [(g.role, g.privileges) for g in context.grants] == [
        ("history_service", ("select", "insert")),
        ("ledger_reader", ("select",)),
    ]
    assert "CREATE TABLE history.points" in shell("schema", "upgrade", "history", "--dry-run")[0]
    assert shell("schema", "upgrade", "history", "--to", "tables")[0] == "history: now at 0001\n"
    shown, error = shell("schema", "check", "history")
    assert "service database at 0001, head is 0002" in shown
    assert isinstance(error, DifferencesFound)
    assert error.next_step == "carveout schema upgrade history"
    assert shell("schema", "upgrade", "history")[0] == "history: now at 0002\n"
    assert shell("schema", "upgrade", "history")[0] == "history: already at 0002\n"
    shown, error = shell("schema", "check", "history", "--json")
    assert (error, json.loads(shown)) == (None, {
        "version": 1, "context": "history", "passed": True, "current": ["0002"], "head": ["0002"], "tables": 2,
        "differences": [], "next_steps": [],
    })  # fmt: skip
    with pair.service.connect("test") as conn:
        conn.execute("DROP INDEX history.points_account")
    shown, error = shell("schema", "check", "history", "--json")
    assert isinstance(error, DifferencesFound)
    assert json.loads(shown)["differences"] == [
        {
            "object": "index history.points_account on history.points",
            "property": "exists",
            "shared": "yes",
            "service": "no",
        }
    ]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tables", "a.b.c", "--tables: 'a.b.c' is no table name"),
        ("--role", "r=fly", "no privilege: fly"),
        ("--role", "=select", "role=privilege"),
        ("--role", "select", "role=privilege"),
    ],
)
def test_wrong_options_are_named(
    shell: Callable[..., tuple[str, CarveoutError | None]], option: str, value: str, message: str
) -> None:
    shell("init")
    _, error = shell("context", "new", "x", "--tables", "history.points", option, value)
    assert isinstance(error, ConfigError)
    assert message in error.message
