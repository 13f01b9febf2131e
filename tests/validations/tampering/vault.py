"""A vault that moves, live, with everything that can be declared to prove it; and what each check sees of a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from contexts.databases import Databases
from contexts.loader import load_project
from contexts.model import Side
from migrator.checks import run_checks
from tests.migrator import inprocess
from tests.migrator.moving import Bank
from validations.invariants.model import State
from validations.rules import store as violations
from validations.state.store import Verifications

ROLE = "tampering_app"
TABLES = ("account", "entry", "point", "paper")
#: The columns of the table of faults.
CHECKS = ("rows", "schema", "sequences", "grants", "invariants", "references", "versions", "rules", "triggers")
#: What each check says, by check: table and key, object, invariant and key, ...
Said = dict[str, set[str]]

DECLARED = f"""
[[grants]]
role = "{ROLE}"
privileges = ["select", "insert", "update"]

[[references]]
table = "vault.point"
columns = ["payment"]
references = "shop.payment"
referenced_columns = ["id"]

[[rules]]
name = "double_entry"
kind = "balance"
table = "vault.entry"
column = "amount"
group_by = ["tx", "currency"]

[[rules]]
name = "ledger"
kind = "append_only"
table = "vault.entry"

[[rules]]
name = "states"
kind = "transitions"
table = "vault.point"
column = "state"
initial = ["pending"]
allowed = {{ pending = ["confirmed", "expired"] }}

[[rules]]
name = "settled"
kind = "required"
table = "vault.point"
when = {{ state = "confirmed" }}
columns = ["settlement"]

[[rules]]
name = "points"
kind = "immutable"
table = "vault.point"
columns = ["points", "payment"]

[[rules]]
name = "version"
kind = "monotonic"
table = "vault.account"
column = "version"
"""
INVARIANTS = {
    "balance": "SELECT a.id FROM vault.account a"
    " WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM vault.entry e WHERE e.account = a.id)",
    "double_entry": "SELECT tx FROM vault.entry GROUP BY tx HAVING sum(amount) <> 0",
    "one_currency": "SELECT e.id FROM vault.entry e JOIN vault.account a ON a.id = e.account"
    " WHERE a.currency <> e.currency",
    "points_once": "SELECT payment FROM vault.point GROUP BY payment HAVING count(*) > 1",
    "settled": "SELECT id FROM vault.point WHERE (state = 'confirmed') <> (settlement IS NOT NULL)",
}
TOTAL = "-- proves: the same money on both sides\n-- kind: number\nSELECT sum(abs(balance)) FROM vault.account\n"


#: Triggers are for a person to move, so they are on neither side until then.
TRIGGER = (
    "CREATE FUNCTION vault.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER touched BEFORE UPDATE ON vault.account FOR EACH ROW EXECUTE FUNCTION vault.touch()",
)


@dataclass
class Vault:
    """Both sides, with a live worker between them."""

    bank: Bank
    #: What is said where nothing is wrong: the closed side's sequences stand still until a switch.
    usual: Said
    violations: int = 0

    def run(self, side: Side, *statements: str) -> None:
        """Run statements in one transaction, around write locks and triggers on the service side."""
        around = {"session_replication_role": "replica"} if side is Side.SERVICE else {}
        with self.bank.both[side].connect("test", autocommit=False, **around) as conn:
            for statement in statements:
                conn.execute(statement)

    @contextmanager
    def saved(self) -> Iterator[None]:
        """The service side's rows are put back afterwards, around the stream."""
        self.run(Side.SERVICE, *(f"CREATE TABLE saved.{name} AS SELECT * FROM vault.{name}" for name in TABLES))
        try:
            yield
        finally:
            for name in TABLES:
                same = f"SELECT t.ctid FROM vault.{name} t JOIN saved.{name} s ON t::text = s::text AND t.id = s.id"
                self.run(
                    Side.SERVICE,
                    f"DELETE FROM vault.{name} WHERE ctid NOT IN ({same})",
                    f"INSERT INTO vault.{name} SELECT * FROM saved.{name} s"
                    f" WHERE NOT EXISTS (SELECT FROM vault.{name} t WHERE t.id = s.id)",
                    f"DROP TABLE saved.{name}",
                )

    def look(self) -> Said:
        """What every check says beyond what it always says."""
        return {check: new for check, said in self._look().items() if (new := said - self.usual.get(check, set()))}

    def _look(self) -> Said:
        found = inprocess.verify(self.bank)
        store = Verifications(self.bank.both.service, self.bank.name)
        said: Said = {check: set() for check in CHECKS}
        for table, difference in store.differences(found.diff.verification):
            said["rows"].add(f"{table} {','.join(difference.key)} {difference.kind}")
        said["schema"] |= set(found.parity.schema)
        said["sequences"] |= set(found.parity.sequences)
        said["grants"] |= set(found.parity.grants)
        assert found.invariants is not None
        for result in found.invariants.results:
            if result.state is not State.HOLDS:
                name, kind = result.invariant.name, result.invariant.name.split()[0]
                keys = [str(v.key[0][1]) for outcome in result.outcomes for v in outcome.violations]
                check = {"reference": "references", "versions": "versions"}.get(kind, "invariants")
                said[check] |= {f"{name}: {key}" for key in keys or ["no key"]}
        project = load_project(self.bank.folder)
        findings = run_checks(project, self.bank.context, ["triggers"]).findings
        said["triggers"] = {f"{finding.object}: {finding.message}" for finding in findings}
        with self.bank.both.service.connect("test") as conn:
            recorded = violations.read(conn, self.bank.name, Side.SERVICE)
        for one in recorded[self.violations :]:
            said["rules"] |= {f"{one.violation.rule}: {' '.join(map(str, key.values()))}" for key in one.violation.keys}
        self.violations = len(recorded)
        return said


@contextmanager
def moving(folder: Path, pair: Databases) -> Iterator[Vault]:
    """The vault, streaming, equal on both sides."""
    with pair.shared.connect("test", search_path="public") as conn:
        conn.execute(sql.SQL((Path(__file__).parent / "vault.sql").read_text()))
        conn.execute(f"GRANT USAGE ON SCHEMA vault TO {ROLE}")
        conn.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA vault TO {ROLE}")
    names = [f"vault.{name}" for name in TABLES]
    bank = inprocess.project(folder, pair, "vault", *names, copy_by="key", options="copy_part_mb = 1")
    _declare(folder / "contexts" / "vault")
    inprocess.prepare(bank)
    with inprocess.worker(bank):
        bank.await_streaming()
        vault = Vault(bank, {})
        vault.run(Side.SERVICE, "CREATE SCHEMA saved")
        for side in Side:
            vault.run(side, *TRIGGER)
        vault.usual = vault._look()
        yield vault


def _declare(folder: Path) -> None:
    path = folder / "context.toml"
    declared = path.read_text()
    for name in ("account", "point"):
        declared = declared.replace(f'name = "vault.{name}"', f'name = "vault.{name}"\nversions = true')
    path.write_text(declared + DECLARED)
    for suite in (folder / "suites").glob("*.json"):
        suite.unlink()  # great-expectations has tests of its own, and takes its time
    for name, query in INVARIANTS.items():
        (folder / "invariants" / f"{name}.sql").write_text(f"-- proves: {name}\n-- severity: critical\n{query}\n")
    (folder / "invariants" / "total.sql").write_text(TOTAL)
