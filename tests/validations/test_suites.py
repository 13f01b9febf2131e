"""Suites: their files, what each side answers at a barrier, and what must never look green."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contexts.databases import Database, Databases
from contexts.errors import ConfigError
from contexts.example import seed
from contexts.loader import load_context, load_project
from contexts.model import Side, TableName
from contexts.scaffold import suites as scaffold
from tests.contexts import odd
from tests.validations.support import Barriers, NewDatabase, Sides
from validations import state
from validations.barrier import Snapshot
from validations.snapshots import SnapshotGone, exported
from validations.state import suites as stored
from validations.suites import files, vocabulary
from validations.suites.asking import SideGone
from validations.suites.docs import DataDocs
from validations.suites.model import Checked, Expectation, Limits, Outcome, Result, Severity, State, Suite, SuiteResult
from validations.suites.run import check

ROOT = Path(__file__).parents[2]
ACCOUNT = TableName("public", "account")
ODD = TableName("Odd Schema", 'My "T".{x}')
NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}}


@pytest.fixture(scope="module")
def both(module_pair: Databases) -> Databases:
    """A table of three accounts on each side, one with an odd name, and an empty one."""
    state.install(module_pair.service)
    for side in Side:
        with module_pair[side].connect("test") as conn:
            conn.execute("CREATE DOMAIN public.amount AS numeric(14, 2)")
            conn.execute(
                "CREATE TABLE public.account (id int PRIMARY KEY, balance public.amount NOT NULL, owner text,"
                " rate float8)"
            )
            conn.execute(
                "INSERT INTO public.account VALUES (1, 10, 'annabel', 1), (2, 20, 'bob', 2), (3, 30.50, NULL, 3)"
            )
            conn.execute("CREATE TABLE public.empty (id int PRIMARY KEY)")
            conn.execute('CREATE TABLE public.alike ("Id" int, other int)')
            conn.execute("INSERT INTO public.alike VALUES (NULL, 1)")
            conn.execute('CREATE SCHEMA "Odd Schema"')
            conn.execute('CREATE TABLE "Odd Schema"."My ""T"".{x}" ("Id:a%s" int, "{batch}" text)')
            conn.execute("""INSERT INTO "Odd Schema"."My ""T"".{x}" VALUES (1, 'x:y'), (2, '100%')""")
    return module_pair


def run(both: Databases, *suites: Suite, limits: Limits | None = None) -> Checked:
    with Barriers(both)() as barrier:
        snapshots = {Side.SHARED: barrier.open, Side.SERVICE: barrier.closed}
        return check(snapshots, barrier.lsn, suites, limits or Limits())


def suite(*expectations: Expectation, table: TableName = ACCOUNT, **more: Any) -> Suite:
    return Suite("it", table, "{}", expectations, **more)


def expect(type: str, severity: Severity = Severity.CRITICAL, **arguments: Any) -> Expectation:
    return Expectation(type, arguments, severity)


def one(both: Databases, type: str, *, limits: Limits | None = None, **arguments: Any) -> Result:
    return run(both, suite(expect(type, **arguments)), limits=limits).suites[0].results[0]


@contextmanager
def tampered(both: Databases, side: Side, statement: str) -> Iterator[None]:
    """The rows of one side changed as nothing but a rogue session would, and put back."""
    with both[side].connect("test", search_path="public") as conn:
        conn.execute("CREATE TABLE public.kept AS SELECT * FROM public.account")
        try:
            conn.execute(statement.encode())
            yield
        finally:
            conn.execute("TRUNCATE public.account")
            conn.execute("INSERT INTO public.account SELECT * FROM public.kept")
            conn.execute("DROP TABLE public.kept")


def written(tmp_path: Path, content: Any, **more: Any) -> Path:
    path = tmp_path / "it.json"
    whole = {"name": "it", "meta": {"carveout": {"table": "account"}}, "expectations": [NOT_NULL]}
    path.write_text(content if isinstance(content, str) else json.dumps({**whole, **content, **more}))
    return path


def test_a_file_says_what_it_means(tmp_path: Path) -> None:
    own = {"table": "public.account", "sides": ["service"], "may_be_empty": True}
    path = written(tmp_path, {"meta": {"carveout": own, "great_expectations_version": "1.24.1"}, "id": None})
    found = files.read(path, [ACCOUNT])
    assert found == Suite(
        "it", ACCOUNT, path.read_text(), (expect(str(NOT_NULL["type"]), column="id"),), (Side.SERVICE,), True
    )
    assert files.read(written(tmp_path, {}), [ACCOUNT]).sides == (Side.SHARED, Side.SERVICE)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "one JSON object"),
        ("{", "Expecting"),
        ('{"name": "it", "name": "it"}', "a key stands twice"),
        ('{"name": NaN}', "NaN is no JSON"),
        ({"name": "other"}, "differs from the file's name"),
        ({"expectation": []}, "unknown key expectation"),
        ({"expectations": []}, "would prove nothing"),
        ({"expectations": {}}, "would prove nothing"),
        ({"expectations": ["x"]}, "is no object"),
        ({"expectations": [{**NOT_NULL, "kwarg": {}}]}, "unknown key kwarg"),
        ({"expectations": [{"type": "x"}]}, "kwargs is missing"),
        ({"expectations": [{"kwargs": {}}]}, "type is missing"),
        ({"expectations": [{**NOT_NULL, "severity": "error"}]}, "'error' is none of critical"),
        ({"expectations": [{**NOT_NULL, "kwargs": {"column": {"$PARAMETER": "c"}}}]}, "parameters"),
        ({"meta": {}}, "carveout is missing"),
        ({"meta": {"carveout": {}}}, "table is missing"),
        ({"meta": {"carveout": {"table": "acount"}}}, "public.acount is no table of this context"),
        ({"meta": {"carveout": {"table": "account", "side": "shared"}}}, "unknown key side"),
        ({"meta": {"carveout": {"table": "account", "sides": ["left"]}}}, "'left' is none of"),
        ({"meta": {"carveout": {"table": "account", "sides": []}}}, "list of sides"),
        ({"meta": {"carveout": {"table": "account", "sides": ["shared", "shared"]}}}, "twice"),
        ({"meta": {"carveout": {"table": "account", "may_be_empty": "no"}}}, "true or false"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        files.read(written(tmp_path, content), [ACCOUNT])
    assert "it.json" in refused.value.message


@pytest.mark.parametrize(
    ("expectation", "why"),
    [
        (expect("expect_column_values_to_not_be_nul", column="id"), "no such type; the nearest is .*not_be_null"),
        (expect("expect_column_values_to_not_be_null"), "column: field required"),
        (expect("expect_column_values_to_not_be_null", column="id", mostley=0.5), "unknown argument mostley"),
        (expect("expect_column_values_to_not_be_null", column="id", mostly=2), "mostly"),
        (expect("expect_column_values_to_not_be_null", column="id", catch_exceptions=True), "unknown argument"),
        (expect("expect_column_sum_to_equal_exactly", column="balance", total=60.5), "total: str type expected"),
        (expect("expect_column_sum_to_equal_exactly", column="balance", total="NaN"), "written as text"),
        (expect("expect_query_results_to_match_comparison", base_query="SELECT 1"), "200 rows at most"),
    ],
)
def test_what_the_library_would_drop_or_misread_is_refused(expectation: Expectation, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        vocabulary.check([suite(expectation)])


def test_a_suite_is_run_on_both_sides_and_the_side_at_fault_is_named(both: Databases) -> None:
    whole = suite(
        expect("expect_column_values_to_not_be_null", column="id"),
        expect("expect_column_values_to_be_unique", column="id"),
        expect("expect_column_values_to_be_in_set", column="owner", value_set=["annabel", "bob"]),
        expect("expect_table_row_count_to_equal", value=3),
        expect("expect_rows_to_satisfy", condition="balance >= 0::numeric -- no debt"),
        expect("unexpected_rows_expectation", unexpected_rows_query="SELECT 1 FROM {batch} WHERE balance < 0"),
        expect("expect_column_values_to_be_exact_money", column="balance", scale=2),
        expect("expect_column_sum_to_equal_exactly", column="balance", total="60.5"),
        expect("expect_column_sum_to_equal_other_side", column="balance"),
        expect("expect_table_checksum_to_equal_other_side", columns=["id", "balance", "owner"]),
    )
    checked = run(both, whole)
    assert {result.state for result in checked.suites[0].results} == {State.MET}, checked
    assert (checked.passed, checked.suites[0].met) == (True, 10)
    assert [outcome.side for outcome in checked.suites[0].results[0].outcomes] == [*Side]
    assert checked.suites[0].results[8].outcomes[0].observed == "60.50 on both sides"
    with tampered(both, Side.SERVICE, "UPDATE account SET owner = 'mallory', balance = -0.01 WHERE id = 2"):
        checked = run(both, whole)
        states = [[outcome.state for outcome in result.outcomes] for result in checked.suites[0].results]
        met, fails = [State.MET] * 2, [State.MET, State.NOT_MET]
        assert states == [met, met, fails, met, fails, fails, met, fails, [State.NOT_MET], [State.NOT_MET]]
        assert not checked.passed
        wrong = checked.suites[0].results[2].outcomes[1]
        assert (wrong.rows, wrong.unexpected, wrong.values) == (3, 1, None)
        assert checked.suites[0].results[8].outcomes[0].observed == "shared 60.50, service 40.49"
        assert "mallory" not in str(checked)
        shown = run(both, whole, limits=Limits(keep_values=5)).suites[0].results[2].outcomes[1]
        assert shown.values == ("mallory",)
        warned = run(both, suite(expect("expect_rows_to_satisfy", Severity.WARNING, condition="balance >= 0")))
        assert (warned.passed, warned.suites[0].met) == (True, 0)
        assert run(both, suite(expect("expect_rows_to_satisfy", condition="balance >= 0"), sides=(Side.SHARED,))).passed


def test_two_cents_that_change_places_are_seen_by_the_checksum_alone(both: Databases) -> None:
    """The sum stays; great-expectations' own comparison would fetch rows, 200 of them."""
    moved = "UPDATE account SET balance = balance + CASE id WHEN 1 THEN 0.01 ELSE -0.01 END WHERE id < 3"
    columns = ["id", "balance"]
    with tampered(both, Side.SERVICE, moved):
        assert one(both, "expect_column_sum_to_equal_other_side", column="balance").state is State.MET
        assert one(both, "expect_table_checksum_to_equal_other_side", columns=columns).state is State.NOT_MET
    with tampered(both, Side.SERVICE, "UPDATE account SET owner = '' WHERE id = 3"):
        assert one(both, "expect_table_checksum_to_equal_other_side", columns=["owner"]).state is State.NOT_MET
        assert one(both, "expect_table_checksum_to_equal_other_side", columns=columns).state is State.MET


def test_a_difference_after_the_two_hundredth_row_is_found(both: Databases) -> None:
    for side in Side:
        with both[side].connect("test") as conn:
            conn.execute("INSERT INTO public.account SELECT g, 1, 'x', 1 FROM generate_series(1001, 1500) g")
    try:
        with tampered(both, Side.SERVICE, "UPDATE account SET balance = 1.01 WHERE id = 1499"):
            result = one(both, "expect_table_checksum_to_equal_other_side", columns=["id", "balance"])
            assert result.state is State.NOT_MET
    finally:
        for side in Side:
            with both[side].connect("test") as conn:
                conn.execute("DELETE FROM public.account WHERE id > 1000")


def test_money_is_no_float(both: Databases) -> None:
    assert one(both, "expect_column_values_to_be_exact_money", column="rate").outcomes[0].observed == (
        "sums are double precision"
    )
    assert one(both, "expect_column_values_to_be_exact_money", column="rate").state is State.NOT_MET
    assert one(both, "expect_column_values_to_be_exact_money", column="balance").state is State.MET
    assert one(both, "expect_column_values_to_be_exact_money", column="balance", scale=0).state is State.NOT_MET
    assert one(both, "expect_column_values_to_be_exact_money", column="id", scale=0).state is State.MET
    with tampered(both, Side.SHARED, "UPDATE account SET balance = 'NaN' WHERE id = 1"):
        assert one(both, "expect_column_values_to_be_exact_money", column="balance").state is State.NOT_MET
    result = one(both, "expect_column_sum_to_equal_other_side", column="rate")
    assert result.outcomes[0].error == "rate: sums of double precision prove nothing"
    result = one(both, "expect_column_sum_to_equal_exactly", column="rate", total="6")
    assert result.state is State.ERROR
    assert one(both, "expect_column_sum_to_equal_exactly", column="balance", total="60.51").state is State.NOT_MET


def test_odd_names_and_signs(both: Databases) -> None:
    checked = run(both, suite(
        expect("expect_column_values_to_not_be_null", column="Id:a%s"),
        expect("expect_column_values_to_be_in_set", column="{batch}", value_set=["x:y", "100%"]),
        expect("expect_rows_to_satisfy", condition="\"{batch}\" ~ '^.{3,4}$' AND \"Id:a%s\" % 3 > 0 AND 'a:b' <> ':c'"),
        expect("expect_column_sum_to_equal_exactly", column="Id:a%s", total="3"),
        expect("expect_table_checksum_to_equal_other_side", columns=["Id:a%s", "{batch}"]),
        table=ODD,
    ))  # fmt: skip
    assert [result.state for result in checked.suites[0].results] == [State.MET] * 5, checked


@pytest.mark.parametrize(
    ("expectation", "why"),
    [
        (expect("expect_column_values_to_not_be_null", column="ide"), "public.account has no column ide"),
        (expect("expect_table_checksum_to_equal_other_side", columns=["id", "x"]), "has no column x"),
        (expect("expect_column_values_to_be_between", column="owner", min_value=1), "could not answer"),
        (expect("expect_rows_to_satisfy", condition="owner::int = 1"), "InvalidTextRepresentation"),
        (expect("expect_rows_to_satisfy", condition="nothing > 1"), "does not exist"),
        (expect("expect_rows_to_satisfy", condition="true) FROM public.account; COMMIT; SELECT (1"), "42601"),
        (expect("expect_rows_to_satisfy", condition="set_config('transaction_read_only','off',true) IS NULL OR "
                "pg_sleep(9) IS NULL"), "read-write mode"),
        (expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE owner::int = 1"),
         "InvalidTextRepresentation"),
        (expect("unexpected_rows_expectation", unexpected_rows_query="DELETE FROM public.account RETURNING 1"),
         "read-only transaction|42601"),
        (expect("expect_column_values_to_be_unique", column="id", row_condition='col("id") > 9',
                condition_parser="great_expectations"), "no row was looked at"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_an_error(both: Databases, expectation: Expectation, why: str) -> None:
    later = expect("expect_column_values_to_not_be_null", column="id")
    checked = run(both, suite(expectation, later), limits=Limits(statement_s=2))
    result = checked.suites[0].results[0]
    assert (result.state, result.spoils, checked.passed) == (State.ERROR, True, False), result
    assert all(re.search(why, outcome.error) for outcome in result.outcomes), result.outcomes
    assert "annabel" not in str(checked)
    assert checked.suites[0].results[1].state is State.MET  # in spite of its neighbour
    with both.service.connect("test") as conn:
        assert conn.execute("SELECT count(*) FROM public.account").fetchone() == (3,)


def test_columns_that_differ_in_case_alone_are_told_apart_or_refused(both: Databases) -> None:
    """The library's names compare without case: asked for ``id``, it would answer for ``"Id"``."""
    alike = TableName("public", "alike")
    null = expect("expect_column_values_to_be_null", column="Id")
    checked = run(both, suite(null, table=alike), suite(expect("expect_column_values_to_not_be_null", column="id")))
    assert checked.passed
    with both.shared.connect("test") as conn:
        conn.execute("ALTER TABLE public.alike RENAME other TO id")
        try:
            outcomes = run(both, suite(null, table=alike)).suites[0].results[0].outcomes
        finally:
            conn.execute("ALTER TABLE public.alike RENAME id TO other")
    assert [outcome.state for outcome in outcomes] == [State.ERROR, State.MET]
    assert "would mistake a column of public.alike for id" in outcomes[0].error


def test_nothing_that_was_looked_at_is_never_green(both: Databases) -> None:
    not_null = expect("expect_column_values_to_not_be_null", column="id")
    same = expect("expect_table_checksum_to_equal_other_side", columns=["id"])
    for name, why in (("empty", "has no row"), ("nowhere", "is not there")):
        checked = run(both, suite(not_null, same, table=TableName("public", name)))
        assert [result.state for result in checked.suites[0].results] == [State.ERROR] * 2
        assert all(why in outcome.error for result in checked.suites[0].results for outcome in result.outcomes)
        assert not checked.passed
    allowed = run(both, suite(not_null, same, table=TableName("public", "empty"), may_be_empty=True))
    assert allowed.passed
    assert SuiteResult(suite(), ()).spoils
    assert Result(not_null, ()).state is State.ERROR
    assert Result(not_null, (Outcome(Side.SHARED),)).state is State.NOT_MET


def test_errors_show_values_only_when_asked(both: Databases) -> None:
    shown = one(both, "expect_rows_to_satisfy", condition="owner::int = 1", limits=Limits(keep_values=3))
    assert "annabel" in shown.outcomes[0].error


def test_a_statement_over_its_time_is_an_error(both: Databases) -> None:
    slow = "id > 0 AND pg_sleep(60) IS NOT NULL"
    assert one(both, "expect_rows_to_satisfy", condition=slow, limits=Limits(statement_s=0.05)).outcomes[0].error == (
        "took longer than 0.05 s"
    )
    late = one(both, "expect_rows_to_satisfy", condition="true", limits=Limits(all_s=-1))
    assert "no time was left" in late.outcomes[0].error


def test_all_see_the_barrier_and_nothing_after_it(both: Databases) -> None:
    sums = suite(expect("expect_column_sum_to_equal_other_side", column="balance"),
                 expect("expect_column_sum_to_equal_exactly", column="balance", total="60.50"))  # fmt: skip
    with Barriers(both)() as barrier, tampered(both, Side.SHARED, "UPDATE account SET balance = 0"):
        snapshots = {Side.SHARED: barrier.open, Side.SERVICE: barrier.closed}
        assert check(snapshots, 1, [sums], Limits()).passed
    assert not run_with_balance_zero(both, sums).passed


def run_with_balance_zero(both: Databases, sums: Suite) -> Checked:
    with tampered(both, Side.SHARED, "UPDATE account SET balance = 0"):
        return run(both, sums)


def test_a_snapshot_or_a_server_that_is_gone_ends_the_run(both: Databases) -> None:
    one_suite = suite(expect("expect_column_values_to_not_be_null", column="id"))
    with Barriers(both)() as barrier:
        gone = {Side.SHARED: barrier.open, Side.SERVICE: barrier.closed}
    with pytest.raises(SnapshotGone):
        check(gone, 1, [one_suite], Limits())
    ended = "SELECT * FROM {batch} WHERE pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(SideGone, match="went away"):
        one(both, "unexpected_rows_expectation", unexpected_rows_query=ended)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    dead = {Side.SHARED: Snapshot(Database(Side.SHARED, f"postgresql://u@127.0.0.1:{port}/x"), "1")}
    with pytest.raises(Exception, match="connection failed"):
        check(dead, None, [one_suite], Limits())


def test_one_side_alone_is_asked_without_what_compares_both(both: Databases) -> None:
    whole = suite(expect("expect_column_values_to_not_be_null", column="id"),
                  expect("expect_column_sum_to_equal_other_side", column="balance"))  # fmt: skip
    with Barriers(both)() as barrier:
        checked = check({Side.SERVICE: barrier.closed}, None, [whole], Limits())
    (result,) = checked.suites[0].results
    assert [outcome.side for outcome in result.outcomes] == [Side.SERVICE]


def test_the_library_keeps_still(
    both: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    called: list[object] = []
    # psycopg connects through libpq: whatever connects through Python is the library.
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    query = "SELECT * FROM public.account WHERE id < 0"  # without {batch}: the library prints
    assert one(both, "unexpected_rows_expectation", unexpected_rows_query=query).state is State.MET
    assert one(both, "expect_column_values_to_be_between", column="owner", min_value=1).state is State.ERROR
    assert capfd.readouterr() == ("", "")
    assert called == []
    assert [*tmp_path.rglob("*")] == []


def test_what_is_stored_is_what_was_found(both: Databases) -> None:
    verification = Sides(both, ("account",)).diff().verification
    assert stored.read(both.service, verification) is None
    whole = suite(
        expect("expect_column_values_to_be_in_set", Severity.WARNING, column="owner", value_set=["annabel"]),
        expect("expect_rows_to_satisfy", condition="nothing > 1"),
        expect("expect_column_sum_to_equal_other_side", column="balance"),
    )
    checked = run(both, whole, limits=Limits(keep_values=3))
    for _ in range(2):
        stored.save(both.service, verification, checked)
    assert stored.read(both.service, verification) == checked


def test_data_docs_are_written_on_request_without_values(both: Databases, tmp_path: Path) -> None:
    pages = DataDocs(tmp_path / "docs")
    whole = suite(
        expect("expect_column_values_to_be_in_set", column="owner", value_set=["bob"]),
        expect("expect_rows_to_satisfy", condition="nothing > 1"),
        expect("expect_rows_to_satisfy", condition="owner::int > 1"),
        expect("expect_column_values_to_be_exact_money", column="balance"),
        expect("expect_column_sum_to_equal_other_side", column="balance"),
    )
    with Barriers(both)() as barrier:
        snapshots = {Side.SHARED: barrier.open, Side.SERVICE: barrier.closed}
        check(snapshots, 1, [whole], Limits(), pages.keep)
    index = pages.write()
    assert sorted(path.name for path in index.parent.iterdir()) == [
        "index.html", "it.both.html", "it.service.html", "it.shared.html",
    ]  # fmt: skip
    assert "it, service</a>: 1 of 4 met" in index.read_text()
    page = (tmp_path / "docs" / "it.service.html").read_text()
    assert "bob" in page  # what the suite itself says
    assert "annabel" not in page


def test_the_first_suites_hold_where_they_come_from(pair: Databases) -> None:
    """What the scaffold writes for the example is what stands in its contexts, and its rows keep it."""
    project = load_project(ROOT)
    with pair.shared.connect("test") as conn:
        seed.create(conn)
        seed.seed(conn, accounts=50, payments=400)
        for name in ("wallet", "history", "card"):
            context = load_context(project, name)
            for file, text in scaffold.suites(conn, context.table_names).items():
                assert (context.folder / "suites" / file).read_text() == text, file
    with exported(pair.shared, "test") as snapshot:
        for name in ("wallet", "history", "card"):
            declared = files.load(load_context(project, name))
            checked = check({Side.SHARED: snapshot}, None, declared, Limits())
            assert {one.suite.table for one in checked.suites} == set(load_context(project, name).table_names)
            assert [(suite.name, result.expectation, result.outcomes) for suite, result in checked.spoilt_by] == []


def test_the_first_suites_hold_for_odd_tables(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, context, _ = odd.make(new_database, (16, 18), tmp_path)
    declared = files.load(context)
    assert len(declared) >= 5
    with exported(sides.shared, "test") as snapshot:
        checked = check({Side.SHARED: snapshot}, None, declared, Limits())
    assert [(suite.name, result.expectation, result.outcomes) for suite, result in checked.spoilt_by] == []
