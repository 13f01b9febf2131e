"""A switch needs a full, green, fresh proof of this stream: every reason against one refuses."""

from __future__ import annotations

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator import status
from migrator.cli.common import run_of
from migrator.proof import why_not_proven
from tests.migrator import inprocess
from tests.migrator.moving import Bank

#: What is wrong: a statement in the service database (rolled back by the next one) and the reason that is given.
REASONS = {
    "red": (
        "UPDATE carveout.verification_segment SET different = 1 WHERE segment = 0",
        "the last verification says different (2 differences)",
    ),
    "incomplete": (
        "UPDATE carveout.verification_segment SET barrier_at = NULL WHERE segment = 0",
        "the last verification says incomplete",
    ),
    "a table that could not be compared": (
        "UPDATE carveout.verification_table SET method = NULL, problem = 'no' WHERE table_name = 'entry'",
        "the last verification says incomplete",
    ),
    "nothing compared": (
        "UPDATE carveout.verification_segment SET rows_open = 0, rows_closed = 0",
        "the last verification says nothing_compared",
    ),
    "not finished": (
        "UPDATE carveout.verification SET finished_at = NULL, verdict = NULL",
        "no full verification has been finished",
    ),
    "only some keys": ("UPDATE carveout.verification SET kind = 'delta'", "no full verification has been finished"),
    "a sample": ("UPDATE carveout.verification SET kind = 'sample'", "no full verification has been finished"),
    "stale": (
        "UPDATE carveout.verification_segment SET barrier_at = barrier_at - '2 hours'::interval WHERE segment = 0",
        "s old (limit 3600 s)",
    ),
    "the other way round": (
        "UPDATE carveout.verification SET open_side = 'service'",
        "the last verification is from before the last switch",
    ),
    "partial": (
        "DELETE FROM carveout.verification_table WHERE table_name = 'entry'",
        "the last verification did not compare bank.entry",
    ),
    "the schema differed": (
        "UPDATE carveout.verification_parity SET schema = '{no index i}'",
        "the last verification found the schemas different: no index i",
    ),
    "the schema was not looked at": (
        "DELETE FROM carveout.verification_parity",
        "the last verification did not look at the schema",
    ),
    "another shape": (
        "ALTER TABLE bank.entry ALTER memo TYPE varchar(99)",
        "the tables have another shape than at the last verification",
    ),
    "killed before its end": (
        "DELETE FROM carveout.verification_stream",
        "the last verification was not finished as a whole",
    ),
    "another slot": ("UPDATE carveout.position SET slot = 'made_again'", "of another stream: slot carveout_bank_1"),
    "another server": ("UPDATE carveout.position SET system_identifier = '7'", "now it is carveout_bank_1 of 7"),
    "a restored server": ("UPDATE carveout.position SET timeline = 2", "timeline 2"),
    "a restored service database": (
        "UPDATE carveout.verification_stream SET end_lsn = 'FF/0'",
        "the service side was set back: the last verification saw it at FF/0",
    ),
    "no position": ("DELETE FROM carveout.position", "no position of stream 1 is stored on the service side"),
    "an invariant was not asked": (
        "DELETE FROM carveout.verification_invariant",
        "the last verification did not run invariant reference bank.entry (account) as it is now",
    ),
    "an invariant broke": (
        "UPDATE carveout.verification_invariant_side SET rows = 1 WHERE side = 'shared'",
        "invariant reference bank.entry (account): violated (critical)",
    ),
}
REFERENCE = """
[[references]]
table = "bank.entry"
columns = ["account"]
references = "bank.owner"
referenced_columns = ["account"]
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Bank:
    """Proven, with its worker ended: nothing moves between a statement and its undoing."""
    made = Bank.create(tmp_path_factory.mktemp("gate"), module_pair, accounts=20)
    made.declare(REFERENCE)
    made.expand_variables()
    with module_pair.shared.connect("test") as conn:
        conn.execute("CREATE TABLE bank.owner AS SELECT id AS account FROM bank.account")
    inprocess.prepare(made)
    with inprocess.worker(made):
        made.await_streaming()
        assert reason(made) == "no full verification has been finished"
        assert "proof: none, allows no switch: no full" in made.cli("status", "bank").stdout
        assert inprocess.verify(made).passed
    return made


def reason(bank: Bank) -> str | None:
    with run_of(bank.context, bank.both, "test") as run:
        return why_not_proven(run, Side.SHARED)


def test_a_full_green_fresh_proof_allows_a_switch(bank: Bank) -> None:
    assert reason(bank) is None
    with run_of(bank.context, bank.both, "test") as run:
        (line,) = [line for line in status.lines(status.status(run)) if "proof:" in line]
    assert line.startswith("  proof: equal, 40 rows of 2 tables at ")
    assert " s old of 3600 s, schema " in line
    assert line.endswith("; allows a switch")


@pytest.mark.parametrize("what", REASONS)
def test_a_reason_against_a_switch(bank: Bank, what: str) -> None:
    statement, expected = REASONS[what]
    url = bank.both.service
    with url.connect("test") as conn:
        conn.execute("CREATE SCHEMA before")
        tables = [name for (name,) in conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'carveout'::regnamespace AND relkind = 'r'"
            " AND (relname LIKE 'verification%' OR relname = 'position')"
        )]  # fmt: skip
        for table in tables:
            conn.execute(f"CREATE TABLE before.{table} AS SELECT * FROM carveout.{table}")
        try:
            conn.execute(statement)
            assert expected in str(reason(bank))
        finally:
            conn.execute("SET session_replication_role = replica")
            for table in tables:
                conn.execute(f"DELETE FROM carveout.{table}")
                conn.execute(f"INSERT INTO carveout.{table} OVERRIDING SYSTEM VALUE SELECT * FROM before.{table}")
            conn.execute("ALTER TABLE bank.entry ALTER memo TYPE text")
            conn.execute("DROP SCHEMA before CASCADE")
    assert reason(bank) is None


def test_cutover_asks_for_it(bank: Bank) -> None:
    with bank.both.service.connect("test") as conn:
        conn.execute("UPDATE carveout.verification_segment SET barrier_at = barrier_at - '2 hours'::interval")
    with inprocess.worker(bank):
        bank.await_streaming()
        refused = bank.cli("cutover", "bank", expect=4)
        assert "s old (limit 3600 s) (carveout verify bank)" in refused.stderr
        assert inprocess.verify(bank).passed
        bank.cli("cutover", "bank")
