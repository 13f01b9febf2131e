"""Invariants: their files, what each side answers at a barrier, and what must never look green."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.errors import CarveoutError, ConfigError
from contexts.loader import load_context, load_project
from contexts.model import Side
from tests.validations.support import Barriers, Sides
from validations import state
from validations.barrier import Barrier
from validations.diff.model import Verdict
from validations.invariants import files
from validations.invariants.model import Checked, Invariant, Kind, Limits, Outcome, Result, Severity, State
from validations.invariants.reading import SideGone
from validations.invariants.run import check
from validations.state import invariants as stored

ROOT = Path(__file__).parents[2]
FRONT = "-- proves: it\n"


@pytest.fixture(scope="module")
def both(module_pair: Databases) -> Databases:
    """A table of three accounts on each side."""
    state.install(module_pair.service)
    for side in Side:
        with module_pair[side].connect("test") as conn:
            conn.execute("CREATE TABLE public.account (id int PRIMARY KEY, balance numeric NOT NULL, owner text)")
            conn.execute("CREATE SEQUENCE public.numbers")
            conn.execute("INSERT INTO public.account VALUES (1, 10, 'ann'), (2, 20, 'bob'), (3, 30.50, NULL)")
    return module_pair


def run(both: Databases, *invariants: Invariant, limits: Limits | None = None) -> Checked:
    with Barriers(both)() as barrier:
        return check(barrier, invariants, limits or Limits())


def one(both: Databases, sql: str, kind: Kind = Kind.ROWS, limits: Limits | None = None) -> Result:
    return run(both, Invariant("it", "it", sql, kind=kind), limits=limits).results[0]


@contextmanager
def tampered(both: Databases, side: Side, statement: str) -> Iterator[None]:
    """The rows of one side changed as nothing but a rogue session would, and put back."""
    with both[side].connect("test", session_replication_role="replica", search_path="public") as conn:
        conn.execute("CREATE TABLE public.kept AS SELECT * FROM public.account")
        conn.execute(statement.encode())
        yield
        conn.execute("TRUNCATE public.account")
        conn.execute("INSERT INTO public.account SELECT * FROM public.kept")
        conn.execute("DROP TABLE public.kept")


def test_a_file_says_what_it_means(tmp_path: Path) -> None:
    path = tmp_path / "no_debt.sql"
    path.write_text(
        "-- proves: nobody owes: not even ann\n-- severity: warning\n-- sides: service\n-- key: a, b\nSELECT 1 -- x\n"
    )
    assert files.read(path) == Invariant(
        "no_debt", "nobody owes: not even ann", path.read_text(), Severity.WARNING, (Side.SERVICE,), Kind.ROWS,
        ("a", "b"),
    )  # fmt: skip
    path.write_text("-- proves: it\n-- kind: number\nSELECT 1")
    assert files.read(path).sides == (Side.SHARED, Side.SERVICE)
    assert files.read(path).severity is Severity.ERROR


def test_the_examples_files_are_read_and_a_context_without_any_has_none() -> None:
    project = load_project(ROOT)
    assert {i.name for i in files.load(load_context(project, "wallet"))} > {"turnover", "balance_is_sum_of_entries"}
    assert files.load(load_context(project, "card")) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT 1", "does not say what it proves"),
        ("-- proves:\nSELECT 1", "does not say what it proves"),
        ("-- severity: error\nSELECT 1", "does not say what it proves"),
        (FRONT + "-- serverity: error\nSELECT 1", "line 2: unknown key 'serverity'"),
        (FRONT + "-- proves: more\nSELECT 1", "line 2: proves stands there twice"),
        (FRONT + "-- a remark\nSELECT 1", "line 2 is no '-- key: value'"),
        (FRONT + "-- severity: fatal\nSELECT 1", "severity: 'fatal' is none of"),
        (FRONT + "-- sides: left\nSELECT 1", "sides: 'left' is none of"),
        (FRONT + "-- sides: shared,\nSELECT 1", "sides: an empty name"),
        (FRONT + "-- sides: shared, shared\nSELECT 1", "a side stands there twice"),
        (FRONT + "-- kind: text\nSELECT 1", "kind: 'text' is none of"),
        (FRONT + "-- kind: number\n-- sides: shared\nSELECT 1", "compared across both sides"),
        (FRONT + "-- kind: number\n-- key: id\nSELECT 1", "has no key"),
        (FRONT, "holds no statement"),
        (FRONT + "SELECT 1\0 WHERE false", "NUL"),
        (FRONT.encode() + b"SELECT '\xff'", "utf-8"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, text: str | bytes, why: str) -> None:
    path = tmp_path / "it.sql"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=why) as refused:
        files.read(path)
    assert str(path) in refused.value.message


def test_a_violation_on_one_side_only_is_found_there(both: Databases) -> None:
    sql = "-- front: is a comment to the server\nSELECT id, owner, balance FROM public.account WHERE balance < 0;"
    assert one(both, sql).state is State.HOLDS
    with tampered(both, Side.SERVICE, "UPDATE account SET balance = -0.01 WHERE id < 3"):
        result = one(both, sql)
        shared, service = result.outcomes
        assert (result.state, result.spoils) == (State.VIOLATED, True)
        assert (shared.side, shared.rows, shared.violations) == (Side.SHARED, 0, ())
        assert service.rows == 2
        assert [v.key for v in service.violations] == [(("id", "1"),), (("id", "2"),)]
        assert "ann" not in str(result.outcomes)

        shown = one(both, sql, limits=Limits(keep_rows=1, show_values=True)).outcomes[1]
        assert (shown.rows, len(shown.violations)) == (2, 1)  # counted all, kept one
        assert shown.violations[0].values == (("id", "1"), ("owner", "ann"), ("balance", "-0.01"))

        warned = Invariant("w", "w", sql, Severity.WARNING, (Side.SERVICE,), key=("owner", "id"))
        checked = run(both, warned)
        assert checked.passed
        assert checked.results[0].state is State.VIOLATED
        assert checked.results[0].outcomes[0].violations[0].key == (("owner", "ann"), ("id", "1"))
        assert run(both, Invariant("s", "s", sql, sides=(Side.SHARED,))).results[0].state is State.HOLDS


def test_a_number_must_be_the_same_on_both_sides_to_the_cent(both: Databases) -> None:
    sql = "SELECT sum(balance) FROM public.account"
    assert [o.number for o in one(both, sql, Kind.NUMBER).outcomes] == [Decimal("60.50")] * 2
    with tampered(both, Side.SHARED, "UPDATE account SET balance = balance + 0.01 WHERE id = 2"):
        result = one(both, sql, Kind.NUMBER)
        assert (result.state, result.spoils) == (State.VIOLATED, True)
        assert [o.number for o in result.outcomes] == [Decimal("60.51"), Decimal("60.50")]
    with tampered(both, Side.SHARED, "UPDATE account SET balance = 20.00 WHERE id = 2"):
        assert one(both, sql, Kind.NUMBER).state is State.HOLDS  # another scale is no other number


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT 1 WHERE false; SELECT 1", "more than one statement"),
        ("SELECT 1 WHERE false; COMMIT", "more than one statement"),
        ("DELETE FROM public.account WHERE false RETURNING 1", "syntax error"),
        ("WITH d AS (DELETE FROM public.account RETURNING 1) SELECT 1 FROM d", "data-modifying"),
        ("SELECT 1 WHERE nextval('public.numbers') < 0", "read-only transaction"),
        ("SELECT 1 FROM public.account WHERE id = 9 FOR UPDATE", "read-only transaction"),
        ("SELECT id INTO public.other FROM public.account", "INTO"),
        ("COMMIT", "syntax error"),
        ("-- nothing", "syntax error"),
        ("SELECT 1 FROM public.nowhere", "does not exist"),
        ("SELECT 1 FROM account", "does not exist"),  # names must be qualified
        ("SELECT WHERE false", "no column"),
    ],
)
def test_what_cannot_be_answered_is_an_error(both: Databases, sql: str, why: str) -> None:
    later = Invariant("later", "it", "SELECT 1 FROM public.account WHERE balance < 0")
    checked = run(both, Invariant("it", "it", sql, Severity.WARNING), later)
    result = checked.results[0]
    assert (result.state, result.spoils, checked.passed) == (State.ERROR, True, False)
    assert all(why in outcome.error for outcome in result.outcomes), result.outcomes
    assert checked.results[1].state is State.HOLDS  # inside the same snapshot
    with both.service.connect("test") as conn:
        assert conn.execute("SELECT count(*) FROM public.account").fetchone() == (3,)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT sum(balance) FROM public.account WHERE false", "NULL"),
        ("SELECT 1.5::float8", "integer or numeric"),
        ("SELECT 'NaN'::numeric", "NaN"),
        ("SELECT balance FROM public.account", "one row of one column"),
        ("SELECT 1, 2", "one row of one column"),
        ("SELECT 1 WHERE false", "one row of one column"),
    ],
)
def test_a_number_that_is_none_is_an_error(both: Databases, sql: str, why: str) -> None:
    result = one(both, sql, Kind.NUMBER)
    assert result.state is State.ERROR
    assert all(why in outcome.error for outcome in result.outcomes), result.outcomes


def test_errors_show_no_values_unless_asked(both: Databases) -> None:
    sql = "SELECT 1 FROM public.account WHERE owner::int = 1"
    assert "ann" not in str(one(both, sql).outcomes)
    assert "InvalidTextRepresentation" in one(both, sql).outcomes[0].error
    assert "ann" in one(both, sql, limits=Limits(show_values=True)).outcomes[0].error


def test_a_key_that_is_no_column_is_an_error(both: Databases) -> None:
    checked = run(both, Invariant("it", "it", "SELECT id FROM public.account WHERE false", key=("di",)))
    assert "no column di" in checked.results[0].outcomes[0].error


def test_a_statement_over_its_time_is_an_error_and_the_rest_goes_on(both: Databases) -> None:
    slow = Invariant("slow", "it", "SELECT pg_sleep(60)")
    checked = run(both, slow, Invariant("b", "it", "SELECT 1 WHERE false"), limits=Limits(statement_s=0.05))
    assert checked.results[0].outcomes[0].error == "took longer than 0.05 s"
    assert [result.state for result in checked.results] == [State.ERROR, State.HOLDS]
    late = run(both, slow, limits=Limits(all_s=0)).results[0]
    assert "no time was left" in late.outcomes[0].error


def test_a_server_that_goes_away_ends_the_run(both: Databases) -> None:
    # The statement ends its own session, as a crash would.
    sql = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(SideGone, match="went away in invariant it"):
        one(both, sql)


def test_a_side_that_was_not_asked_is_an_error() -> None:
    assert Result(Invariant("it", "it", ""), (Outcome(Side.SHARED),)).state is State.ERROR
    assert Result(Invariant("it", "it", ""), ()).state is State.ERROR


def test_all_see_the_barrier_and_nothing_after_it(both: Databases) -> None:
    sums = Invariant("sum", "it", "SELECT sum(balance) FROM public.account", kind=Kind.NUMBER)
    with Barriers(both)() as barrier, tampered(both, Side.SHARED, "UPDATE account SET balance = 0"):
        assert check(barrier, [sums], Limits()).results[0].outcomes[0].number == Decimal("60.50")


def test_a_snapshot_that_is_gone_is_an_error(both: Databases) -> None:
    with Barriers(both)() as barrier:
        gone: Barrier = barrier
    with pytest.raises(CarveoutError, match="cannot be imported"):
        check(gone, [Invariant("it", "it", "SELECT 1")], Limits())


def test_what_is_stored_is_what_was_found(both: Databases) -> None:
    sides = Sides(both, ("account",))
    verification = sides.diff()
    assert verification.verdict is Verdict.EQUAL
    assert stored.read(both.service, verification.verification) is None
    rows = Invariant("b", "it", "SELECT owner, id AS owner FROM public.account", Severity.WARNING, (Side.SERVICE,))
    broken = Invariant("c", "it", "SELECT", key=("x", "y"))
    number = Invariant("a", "it", "SELECT sum(balance) FROM public.account", kind=Kind.NUMBER)
    checked = run(both, number, rows, broken, limits=Limits(show_values=True))
    for _ in range(2):
        stored.save(both.service, verification.verification, checked)
    read = stored.read(both.service, verification.verification)
    assert read == checked
    assert _digests(read) == _digests(checked)


def _digests(checked: Checked | None) -> list[str]:
    return [result.invariant.digest for result in checked.results] if checked else []
