"""Each check of the tables room: what triggers it, its fix, and the clean case."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import psycopg
import pytest

from migrator.checks import Severity
from tests.checks.conftest import SERVICE, SHARED, Case, statements_of

BLOCKER, WARNING, INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO
QUIET_WHEN_CLEAN = (
    "tables", "keys", "full_identity", "generated_columns", "foreign_keys", "partitions", "inheritance", "triggers",
    "rules", "functions", "views", "row_security", "large_objects", "types", "sequences",
    "stream_rules", "row_versions", "outbox_tables",
)  # fmt: skip


def test_a_clean_table_gives_no_finding(case: Case) -> None:
    report = case.report(*QUIET_WHEN_CLEAN)
    assert (report.findings, set(report.checks)) == ((), set(QUIET_WHEN_CLEAN))


def test_missing_tables_are_refused_by_name(case: Case) -> None:
    case.declare("app.accounts", "app.Accounts", "app.nowhere")
    misspelt, absent = case.find("tables")
    assert (misspelt.severity, misspelt.object) == (BLOCKER, "app.Accounts")
    assert "there is app.accounts" in misspelt.message
    assert (absent.object, "wallet/context.toml" in absent.fix) == ("app.nowhere", True)


def test_only_tables_move(case: Case) -> None:
    case.sql(SHARED, "CREATE VIEW app.v AS SELECT 1 AS one")
    case.declare("app.v")
    found = case.only("tables")
    assert (found.severity, found.object, found.message) == (BLOCKER, "app.v", "is a view: only tables move")


def test_an_unlogged_table_is_refused(case: Case) -> None:
    case.sql(SHARED, "ALTER TABLE app.accounts SET UNLOGGED")
    found = case.only("tables")
    assert (found.severity, found.object) == (BLOCKER, "app.accounts")
    assert found.fix == 'ALTER TABLE "app"."accounts" SET LOGGED;'
    case.fix(found)
    assert case.find("tables") == []


KEYLESS = {
    "no key": ("CREATE TABLE app.t (a int, b int)", "it has no primary key"),
    "nullable unique": ("CREATE TABLE app.t (a int UNIQUE, b int)", "it has no primary key"),
    "partial unique": (
        "CREATE TABLE app.t (a int NOT NULL, b int); CREATE UNIQUE INDEX i ON app.t (a) WHERE b > 0",
        "it has no primary key",
    ),
    "nothing": ("CREATE TABLE app.t (a int PRIMARY KEY); ALTER TABLE app.t REPLICA IDENTITY NOTHING", "is NOTHING"),
    "deferrable": ("CREATE TABLE app.t (a int PRIMARY KEY DEFERRABLE)", "key t_pkey is deferrable"),
    "index gone": (
        "CREATE TABLE app.t (a int NOT NULL CONSTRAINT u UNIQUE); ALTER TABLE app.t REPLICA IDENTITY USING INDEX u;"
        " ALTER TABLE app.t DROP CONSTRAINT u",
        "the index of its replica identity is gone",
    ),
}


@pytest.mark.parametrize("shape", KEYLESS)
def test_publishing_a_table_without_identity_would_break_its_updates(case: Case, shape: str) -> None:
    create, why = KEYLESS[shape]
    case.sql(SHARED, create)
    case.declare("app.t")
    found = case.only("keys")
    assert (found.severity, found.object, found.side) == (BLOCKER, "app.t", SHARED)
    assert why in found.message
    assert 'ALTER TABLE "app"."t" REPLICA IDENTITY FULL;' in found.fix
    _last_choice_lets_the_application_write(case, statements_of(found.fix))


def _last_choice_lets_the_application_write(case: Case, choices: list[str]) -> None:
    case.sql(SHARED, choices[-1], "CREATE PUBLICATION p FOR TABLE app.t", "INSERT INTO app.t (a) VALUES (1)")
    case.sql(SHARED, "UPDATE app.t SET a = 2")
    assert case.find("keys") == []


def test_each_choice_gives_a_table_its_identity(case: Case) -> None:
    create = "CREATE TABLE app.t (a int NOT NULL, b int); CREATE UNIQUE INDEX t_a ON app.t (a)"
    case.declare("app.t")
    case.sql(SHARED, create)
    choices = statements_of(case.only("keys").fix)
    assert choices == [
        'ALTER TABLE "app"."t" ADD PRIMARY KEY USING INDEX "t_a";',
        'ALTER TABLE "app"."t" REPLICA IDENTITY USING INDEX "t_a";',
        'ALTER TABLE "app"."t" REPLICA IDENTITY FULL;',
    ]
    for choice in choices:
        case.sql(SHARED, "DROP TABLE app.t", create)
        assert len(case.find("keys")) == 1
        case.sql(SHARED, choice)
        assert case.find("keys") == []


@pytest.mark.parametrize(
    ("shape", "choice"),
    [
        ("deferrable", 'ALTER TABLE "app"."t" DROP CONSTRAINT "t_pkey", ADD CONSTRAINT "t_pkey" PRIMARY KEY ("a");'),
        ("nothing", 'ALTER TABLE "app"."t" REPLICA IDENTITY DEFAULT;'),
    ],
)
def test_a_key_that_does_not_count_can_be_made_to(case: Case, shape: str, choice: str) -> None:
    case.sql(SHARED, KEYLESS[shape][0])
    case.declare("app.t")
    assert statements_of(case.only("keys").fix)[0] == choice
    case.sql(SHARED, choice)
    assert case.find("keys") == []


def test_a_leaf_without_identity_is_found(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE TABLE app.t (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE app.t_1 PARTITION OF app.t FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE app.t_2 PARTITION OF app.t (PRIMARY KEY (a)) FOR VALUES FROM (9) TO (99)",
    )
    case.declare("app.t")
    assert case.only("keys").object == "app.t_1"


def test_full_identity_without_a_key_is_slow_or_stuck(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE TABLE app.fine (a int, b varchar(9), c text[], d numeric[])",
        "ALTER TABLE app.fine REPLICA IDENTITY FULL",
        "CREATE TABLE app.stuck (a int, place point, doc json, docs json[], day date)",
        "ALTER TABLE app.stuck REPLICA IDENTITY FULL",
        "CREATE TABLE app.keyed (a int PRIMARY KEY, doc json)",
        "ALTER TABLE app.keyed REPLICA IDENTITY FULL",
    )
    case.declare("app.fine", "app.stuck", "app.keyed")
    slow, stuck = case.find("full_identity")
    assert (slow.severity, slow.object) == (WARNING, "app.fine")
    assert (stuck.severity, stuck.object) == (BLOCKER, "app.stuck")
    assert "place, doc, docs cannot be compared" in stuck.message


def test_a_generated_column_may_not_identify_rows(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE TABLE app.k (a int NOT NULL, b int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY)",
        "CREATE TABLE app.f (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a * 2) STORED)",
        "ALTER TABLE app.f REPLICA IDENTITY FULL",
        "CREATE TABLE app.fine (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a * 2) STORED)",
    )
    case.declare("app.k", "app.f", "app.fine")
    full, key = case.find("generated_columns")
    assert (key.severity, key.object) == (BLOCKER, "app.k")
    assert "column b, which no stream carries" in key.message
    assert (full.severity, full.object) == (BLOCKER, "app.f")
    assert full.fix == 'ALTER TABLE "app"."f" REPLICA IDENTITY DEFAULT;'
    case.fix(full)
    assert [found.object for found in case.find("generated_columns")] == ["app.k"]


USERS = "CREATE TABLE app.users (id int PRIMARY KEY)"
NOTES = "CREATE TABLE app.notes (id int PRIMARY KEY, account int CONSTRAINT about REFERENCES app.accounts)"


def test_a_foreign_key_out_of_the_context_is_declared_or_dropped(case: Case) -> None:
    case.sql(SHARED, USERS, "ALTER TABLE app.accounts ADD owner int CONSTRAINT owned REFERENCES app.users")
    found = case.only("foreign_keys")
    assert (found.severity, found.object) == (BLOCKER, "app.accounts")
    assert "app.accounts (owner) refers to app.users, which stays" in found.message
    assert found.fix.endswith('ALTER TABLE "app"."accounts" DROP CONSTRAINT "owned";')
    case.fix(found)
    assert case.find("foreign_keys") == []


def test_a_foreign_key_into_the_context_can_be_declared_as_the_fix_says(case: Case) -> None:
    case.sql(SHARED, NOTES)
    found = case.only("foreign_keys")
    assert (found.severity, found.object) == (BLOCKER, "app.notes")
    assert "app.notes (account) stays, and refers to app.accounts, which moves" in found.message
    case.declare(**_toml_in(found.fix))
    assert case.find("foreign_keys") == []


def _toml_in(fix: str) -> dict[str, object]:
    declaration, _, _ = fix.partition("-- or drop it")
    return tomllib.loads("\n".join(line.removeprefix("-- ") for line in declaration.splitlines()[1:]))


def test_a_cascade_over_the_boundary_is_named_even_where_declared(case: Case) -> None:
    case.sql(SHARED, NOTES.replace("app.accounts)", "app.accounts ON DELETE CASCADE)"))
    case.declare(**_toml_in(case.only("foreign_keys").fix))
    found = case.only("foreign_keys")
    assert (found.severity, found.object) == (WARNING, "app.notes")


def test_a_foreign_key_inside_the_context_is_fine(case: Case) -> None:
    case.sql(SHARED, NOTES)
    case.declare("app.accounts", "app.notes")
    assert case.find("foreign_keys") == []


PARTITIONED = (
    "CREATE TABLE app.events (at date PRIMARY KEY) PARTITION BY RANGE (at)",
    "CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
)


def test_a_partition_does_not_move_alone(case: Case) -> None:
    case.sql(SHARED, *PARTITIONED)
    case.declare("app.events_1")
    found = case.only("partitions")
    assert (found.severity, found.object) == (BLOCKER, "app.events_1")
    assert "declare the partitioned table app.events" in found.fix
    case.declare("app.events")
    assert case.find("partitions") == []


def test_a_foreign_table_as_partition_is_refused(case: Case) -> None:
    case.sql(
        SHARED,
        *PARTITIONED,
        "ALTER TABLE app.events DROP CONSTRAINT events_pkey",
        "CREATE FOREIGN DATA WRAPPER nothing",
        "CREATE SERVER far FOREIGN DATA WRAPPER nothing",
        "CREATE FOREIGN TABLE app.far PARTITION OF app.events DEFAULT SERVER far",
    )
    case.declare("app.events")
    found = case.only("partitions")
    assert (found.severity, found.object) == (BLOCKER, "app.far")
    assert found.fix == 'ALTER TABLE "app"."events" DETACH PARTITION "app"."far";'
    case.fix(found)
    assert case.find("partitions") == []


def test_a_partition_that_is_half_detached_is_finished_first(case: Case) -> None:
    case.sql(SHARED, *PARTITIONED)
    case.declare("app.events")
    with psycopg.connect(case.databases.shared.url) as reader:
        reader.execute("SELECT FROM app.events")  # the second half of a concurrent detach waits for this
        detach = "ALTER TABLE app.events DETACH PARTITION app.events_1 CONCURRENTLY"
        with pytest.raises(psycopg.errors.QueryCanceled):
            case.sql(SHARED, "SET statement_timeout = '300ms'", detach)
    found = case.only("partitions")
    assert (found.severity, found.object) == (BLOCKER, "app.events_1")
    assert found.fix == 'ALTER TABLE "app"."events" DETACH PARTITION "app"."events_1" FINALIZE;'
    case.fix(found)
    assert case.find("partitions") == []


def test_table_inheritance_is_refused(case: Case) -> None:
    case.sql(SHARED, "CREATE TABLE app.special () INHERITS (app.accounts)")
    found = case.only("inheritance")
    assert (found.severity, found.object) == (BLOCKER, "app.special")
    assert found.fix == 'ALTER TABLE "app"."special" NO INHERIT "app"."accounts";'
    case.fix(found)
    assert case.find("inheritance") == []


FUNCTION = (
    "CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM 'password=hunter2'; RETURN NEW; END $$"
)
TRIGGER = "CREATE TRIGGER touched BEFORE UPDATE ON app.accounts FOR EACH ROW EXECUTE FUNCTION app.touch()"


def test_a_trigger_must_exist_on_the_service_side_too(case: Case) -> None:
    case.sql(SHARED, FUNCTION, TRIGGER)
    found = case.only("triggers")
    assert (found.severity, found.object) == (WARNING, "app.accounts")
    assert "trigger touched (app.touch())" in found.message
    assert "CREATE TRIGGER touched BEFORE UPDATE ON app.accounts" in found.fix
    case.sql(SERVICE, "CREATE SCHEMA app", "CREATE TABLE app.accounts (id int PRIMARY KEY)", FUNCTION)
    case.sql(SERVICE, *statements_of(found.fix))
    assert case.find("triggers") == []


def test_a_trigger_may_not_fire_for_applied_changes(case: Case) -> None:
    table = "CREATE TABLE app.accounts (id int PRIMARY KEY)"
    case.sql(SHARED, FUNCTION, TRIGGER)
    case.sql(SERVICE, "CREATE SCHEMA app", table, FUNCTION, TRIGGER)
    case.sql(SERVICE, "ALTER TABLE app.accounts ENABLE ALWAYS TRIGGER touched")
    found = case.only("triggers")
    assert (found.severity, found.side, found.object) == (BLOCKER, SERVICE, "app.accounts")
    assert found.fix == 'ALTER TABLE "app"."accounts" ENABLE TRIGGER "touched";'
    case.fix(found)
    assert case.find("triggers") == []


def test_rules_are_named(case: Case) -> None:
    case.sql(SHARED, "CREATE RULE keep AS ON DELETE TO app.accounts DO INSTEAD NOTHING")
    found = case.only("rules")
    assert (found.severity, found.object) == (WARNING, "app.accounts")
    case.sql(SHARED, "ALTER TABLE app.accounts ENABLE ALWAYS RULE keep")
    always = case.only("rules")
    assert (always.severity, always.fix) == (BLOCKER, 'ALTER TABLE "app"."accounts" ENABLE RULE "keep";')
    case.fix(always)
    case.fix(found)
    assert case.find("rules") == []


def test_functions_that_mention_a_table_are_named(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE FUNCTION app.total() RETURNS numeric LANGUAGE sql AS 'SELECT sum(balance) FROM app.accounts'",
        "CREATE FUNCTION app.bound(x app.accounts) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END",
        "CREATE FUNCTION app.other() RETURNS text LANGUAGE sql AS $$ SELECT 'old_accounts accounts_2' $$",
    )
    bound, total = case.find("functions")
    assert (total.severity, total.object) == (WARNING, "function app.total()")
    assert "mentions app.accounts" in total.message
    assert bound.object == "function app.bound(app.accounts)"
    assert case.sql(SHARED, *statements_of(total.fix))[0][0].startswith("CREATE OR REPLACE FUNCTION app.total()")
    case.sql(SHARED, "DROP FUNCTION app.total", "DROP FUNCTION app.bound")
    assert case.find("functions") == []


def test_views_over_views_are_named(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE VIEW app.rich AS SELECT * FROM app.accounts WHERE balance > 1000",
        "CREATE MATERIALIZED VIEW app.richest AS SELECT max(balance) FROM app.rich",
    )
    rich, richest = case.find("views")
    assert (rich.severity, rich.object, richest.object) == (WARNING, "app.rich", "app.richest")
    assert "materialized view over app.accounts" in richest.message
    case.fix(richest)
    case.fix(rich)
    assert case.find("views") == []


def test_large_objects_do_not_move(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE DOMAIN app.lo AS oid",
        "CREATE TABLE app.files (id int PRIMARY KEY, body app.lo, other oid)",
    )
    case.declare("app.files")
    assert case.find("large_objects") == []  # there is no large object at all
    case.sql(SHARED, "INSERT INTO app.files VALUES (1, lo_from_bytea(0, 'abc'), NULL)")
    body, other = case.find("large_objects")
    assert (body.severity, body.object) == (BLOCKER, "app.files")
    assert (other.severity, "other is an oid" in other.message) == (WARNING, True)
    case.fix(body)
    case.fix(other)
    assert case.find("large_objects") == []
    assert case.sql(SHARED, "SELECT body FROM app.files") == [(b"abc",)]


def test_row_types_over_the_boundary_are_refused(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE TABLE app.audit (id int PRIMARY KEY, before app.accounts, many app.accounts[])",
        "CREATE TABLE app.limits (id int PRIMARY KEY)",
        "CREATE TABLE app.t (id int PRIMARY KEY, l app.limits)",
    )
    case.declare("app.accounts", "app.t")
    before, many, inner = case.find("types")
    assert (before.severity, before.object) == (BLOCKER, "app.audit")
    assert "its column before has the row type of app.accounts: the column stays" in before.message
    assert "its column many" in many.message
    assert (inner.object, "the column moves" in inner.message) == ("app.t", True)


def test_user_types_are_to_be_made_on_the_service_side(case: Case) -> None:
    case.sql(
        SHARED,
        "CREATE TYPE app.state AS ENUM ('open', 'it''s shut')",
        "CREATE DOMAIN app.states AS app.state[]",
        "ALTER TABLE app.accounts ADD history app.states",
    )
    state, states = case.find("types")
    assert (state.severity, state.object, states.object) == (INFO, "app.state", "app.states")
    assert state.fix == "CREATE TYPE app.state AS ENUM ('open', 'it''s shut');"
    case.sql(SERVICE, "CREATE SCHEMA app")
    case.fix(state)
    assert case.only("types").object == "app.states"


def test_row_security_must_be_bypassed_and_moved(case: Case, role: Callable[..., str]) -> None:
    mover = role("rls_mover")
    case.sql(
        SHARED,
        "ALTER TABLE app.accounts ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON app.accounts USING (true)",
        f"GRANT USAGE ON SCHEMA app TO {mover}",
        f"GRANT SELECT ON app.accounts TO {mover}",
    )
    case.connect_as(SHARED, mover)
    hidden, missing = case.find("row_security")
    assert (hidden.severity, hidden.object) == (BLOCKER, "app.accounts")
    assert hidden.fix == 'ALTER ROLE "rls_mover" BYPASSRLS;'
    assert (missing.severity, "missing there: mine" in missing.message) == (WARNING, True)
    case.fix(hidden)
    case.sql(SERVICE, "CREATE SCHEMA app", "CREATE TABLE app.accounts (id int PRIMARY KEY)")
    case.sql(SERVICE, *statements_of(missing.fix), "CREATE POLICY mine ON app.accounts USING (true)")
    assert case.find("row_security") == []


UNJUDGEABLE: dict[str, tuple[dict[str, object], str]] = {
    "no column": ({"kind": "immutable", "columns": ["nowhere"]}, "there is no column nowhere"),
    "generated": ({"kind": "immutable", "columns": ["twice"]}, "column twice is generated"),
    "no number": ({"kind": "balance", "column": "rate"}, "column rate is double precision, no exact number"),
    "a day": ({"kind": "monotonic", "column": "day"}, "column day is date, no exact number"),
}


@pytest.mark.parametrize("what", UNJUDGEABLE)
def test_a_stream_rule_that_cannot_be_judged(case: Case, what: str) -> None:
    rule, message = UNJUDGEABLE[what]
    case.sql(
        SHARED,
        "ALTER TABLE app.accounts ADD rate float8, ADD day date, ADD twice int GENERATED ALWAYS AS (id * 2) STORED",
    )
    case.declare(rules=[{"name": "r", "table": "app.accounts", **rule}])
    found = case.only("stream_rules")
    assert (found.severity, found.object, found.message.startswith(f"rule r: {message}")) == (
        BLOCKER, "app.accounts", True,
    )  # fmt: skip


def test_a_rule_about_changes_on_a_partitioned_table(case: Case) -> None:
    case.sql(SHARED, "CREATE TABLE app.p (id int PRIMARY KEY, state text) PARTITION BY RANGE (id)")
    moves = {"name": "r", "kind": "transitions", "table": "app.p", "column": "state", "allowed": {}}
    adds = {"name": "a", "kind": "append_only", "table": "app.p"}
    case.declare("app.p", rules=[moves, adds])
    assert "transitions cannot be judged on a partitioned table" in case.only("stream_rules").message


def test_a_rule_that_can_be_judged(case: Case) -> None:
    case.declare(rules=[{"name": "b", "kind": "balance", "table": "app.accounts", "column": "balance"}])
    assert case.find("stream_rules") == []


def test_versions_need_a_key_a_plain_table_and_a_free_name(case: Case) -> None:
    long = "t" * 60
    case.sql(
        SHARED,
        "CREATE TABLE app.keyless (a int)",
        "CREATE TABLE app.parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        f"CREATE TABLE app.{long} (id int PRIMARY KEY)",
    )
    case.sql(SERVICE, "CREATE SCHEMA app", "CREATE TABLE app.accounts_versions ()")
    names = ("app.accounts", "app.keyless", "app.parts", f"app.{long}")
    case.fields["tables"] = [{"name": name, "versions": True} for name in names]
    taken, keyless, parts, too_long = sorted(case.find("row_versions"), key=lambda found: found.object)
    assert (taken.side, taken.object, taken.severity) == (SERVICE, "app.accounts_versions", BLOCKER)
    assert "no primary key" in keyless.message
    assert "partitioned" in parts.message
    assert "more than 63 bytes" in too_long.message


OUTBOX = (
    "CREATE TABLE app.outbox (id int PRIMARY KEY, aggregatetype text NOT NULL, aggregateid text, type text, payload {})"
)
SINK = {"kind": "table", "url": "dbname=x", "table": "a.b"}


def test_an_outbox_table_has_its_columns_and_a_sink(case: Case) -> None:
    case.sql(SHARED, OUTBOX.format("jsonb"))
    case.declare("app.outbox", outbox=[{"table": "app.outbox"}], outbox_sink=SINK)
    assert case.find("outbox_tables") == []
    case.declare(outbox=[{"table": "app.outbox", "headers": {"h": "nowhere"}}])
    assert "no column nowhere" in case.only("outbox_tables").message
    case.declare(outbox=[{"table": "app.outbox"}], outbox_sink={"kind": "kafka"})
    found = case.only("outbox_tables")
    assert (found.object, found.severity, "no address of a broker" in found.message) == ("outbox_sink", BLOCKER, True)


def test_an_outbox_table_of_odd_columns(case: Case) -> None:
    case.sql(SHARED, OUTBOX.format("int, at date"), "ALTER TABLE app.outbox DROP CONSTRAINT outbox_pkey",
             "ALTER TABLE app.outbox ALTER id DROP NOT NULL")  # fmt: skip
    case.declare("app.outbox", outbox=[{"table": "app.outbox", "timestamp": "at"}], outbox_sink=SINK)
    null, payload, time, key = case.find("outbox_tables")
    assert null.fix == 'ALTER TABLE "app"."outbox" ALTER "id" SET NOT NULL;'
    assert "payload is integer" in payload.message
    assert "at is date" in time.message
    assert (key.severity, "not in the primary key" in key.message) == (WARNING, True)
