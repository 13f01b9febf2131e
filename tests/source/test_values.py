"""What real servers send for every kind of column, key and table."""

from __future__ import annotations

import pytest
from psycopg import conninfo

from cdc.events import UNCHANGED, Change, Delete, Insert, Message, Row, Truncate, Update
from contexts.databases import Database
from tests.source.upstream import Upstream

RANDOM = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n)"  # too long to stay in the row


def rows(changes: list[Change]) -> list[tuple[str, Row | None, Row | None]]:
    """(operation, old, new) of each change."""
    found: list[tuple[str, Row | None, Row | None]] = []
    for change in changes:
        if isinstance(change, Insert):
            found.append(("I", None, change.new))
        elif isinstance(change, Update):
            found.append(("U" if not change.old_is_full else "UF", change.old, change.new))
        elif isinstance(change, Delete):
            found.append(("D" if not change.old_is_full else "DF", change.old, None))
    return found


def test_columns_keys_and_toast(upstream: Upstream) -> None:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY, big text, note text)")
    start = upstream.publish("t")
    upstream.run(
        f"INSERT INTO public.t VALUES (1, {RANDOM}, NULL), (2, '', 'null')",
        "UPDATE public.t SET note = 'x' WHERE id = 1",
        "UPDATE public.t SET id = 3 WHERE id = 1",
        "UPDATE public.t SET big = 'small' WHERE id = 3",
        "DELETE FROM public.t WHERE id = 2",
    )
    changes = upstream.changes(start)
    big = upstream.value(f"SELECT {RANDOM}").encode()
    assert rows(changes) == [
        ("I", None, [b"1", big, None]),
        ("I", None, [b"2", b"", b"null"]),
        ("U", None, [b"1", UNCHANGED, b"x"]),
        ("U", [b"1", None, None], [b"3", UNCHANGED, b"x"]),
        ("U", None, [b"3", b"small", b"x"]),
        ("D", [b"2", None, None], None),
    ]
    assert isinstance(changes[0], Insert)
    assert [column.is_key for column in changes[0].relation.columns] == [True, False, False]


def test_full_identity_sends_the_unchanged_value_in_the_old_row(upstream: Upstream) -> None:
    upstream.run("CREATE TABLE public.t (id int, big text)", "ALTER TABLE public.t REPLICA IDENTITY FULL")
    start = upstream.publish("t")
    upstream.run(f"INSERT INTO public.t VALUES (NULL, {RANDOM})", "UPDATE public.t SET id = 2", "DELETE FROM public.t")
    big = upstream.value(f"SELECT {RANDOM}").encode()
    _, update, delete = rows(upstream.changes(start))
    assert update == ("UF", [None, big], [b"2", UNCHANGED])
    assert delete == ("DF", [b"2", big], None)


def test_index_identity_and_a_toasted_key(upstream: Upstream) -> None:
    upstream.run(
        "CREATE TABLE public.t (id int PRIMARY KEY, code text NOT NULL, note text)",
        "ALTER TABLE public.t ALTER code SET STORAGE EXTERNAL",
        "CREATE UNIQUE INDEX t_code ON public.t (code)",
        "ALTER TABLE public.t REPLICA IDENTITY USING INDEX t_code",
    )
    start = upstream.publish("t")
    long = "x" * 2400
    upstream.run(
        f"INSERT INTO public.t VALUES (1, '{long}', 'a')", "UPDATE public.t SET note = 'b'", "DELETE FROM public.t"
    )
    changes = upstream.changes(start)
    key = long.encode()
    assert rows(changes)[1:] == [
        ("U", [None, key, None], [b"1", UNCHANGED, b"b"]),
        ("D", [None, key, None], None),
    ]
    assert isinstance(changes[0], Insert)
    assert changes[0].relation.replica_identity == "i"
    assert [column.is_key for column in changes[0].relation.columns] == [False, True, False]


def test_truncate_names_all_tables_and_options(upstream: Upstream) -> None:
    upstream.run(
        "CREATE TABLE public.a (id int PRIMARY KEY)",
        "CREATE TABLE public.b (id int PRIMARY KEY, a int REFERENCES public.a)",
        "CREATE TABLE public.other (id int PRIMARY KEY)",
    )
    start = upstream.publish("a", "b")
    upstream.run("TRUNCATE public.a, public.b, public.other RESTART IDENTITY", "TRUNCATE public.a CASCADE")
    first, second = upstream.changes(start)
    assert isinstance(first, Truncate)
    assert isinstance(second, Truncate)
    assert {r.table.name for r in first.relations} == {"a", "b"}
    assert (first.restart_identity, first.cascade) == (True, False)
    assert (second.restart_identity, second.cascade) == (False, True)


def test_partitions_come_under_their_own_names(upstream: Upstream) -> None:
    upstream.run(
        "CREATE TABLE public.p (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part)",
        "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES IN (1)",
    )
    start = upstream.publish("p")
    upstream.run(
        "CREATE TABLE public.p2 PARTITION OF public.p FOR VALUES IN (2)",
        "INSERT INTO public.p VALUES (7, 1)",
        "UPDATE public.p SET part = 2",
        "TRUNCATE public.p2",
        "TRUNCATE public.p",
    )
    insert, gone, came, leaf, root = upstream.changes(start)
    assert isinstance(insert, Insert)
    assert isinstance(gone, Delete)
    assert isinstance(came, Insert)
    assert isinstance(leaf, Truncate)
    assert isinstance(root, Truncate)
    assert [c.relation.table.name for c in (insert, gone, came)] == ["p1", "p1", "p2"]
    assert [r.table.name for r in leaf.relations] == ["p2"]
    assert {r.table.name for r in root.relations} == {"p1", "p2"}


def test_user_types(upstream: Upstream) -> None:
    upstream.run(
        "CREATE DOMAIN public.money_text AS numeric(12,2) CHECK (value > 0)",
        "CREATE TYPE public.mood AS ENUM ('so so', 'fine')",
        "CREATE TYPE public.pair AS (a int, b text)",
        "CREATE TABLE public.t (id uuid PRIMARY KEY, amount public.money_text, mood public.mood,"
        " moods public.mood[], pair public.pair, pairs public.pair[], span int4range, spans int4multirange,"
        " matrix numeric[], doc json, bin jsonb)",
    )
    start = upstream.publish("t")
    upstream.run(
        "INSERT INTO public.t VALUES ('00000000-0000-0000-0000-000000000001', 12345678.90, 'so so',"
        " '{fine,NULL,\"so so\"}', '(1,\"a \"\"b\"\",c\")', ARRAY['(1,x)'::public.pair], '[1,5)',"
        ' \'{[1,3),[7,9)}\', \'{{1.10,2},{3,NaN}}\', \'{"b":1,  "a": 2, "a":3}\', \'{"b":1, "a":2}\')'
    )
    (change,) = upstream.changes(start)
    assert isinstance(change, Insert)
    assert change.new == [
        b"00000000-0000-0000-0000-000000000001", b"12345678.90", b"so so", b'{fine,NULL,"so so"}',
        b'(1,"a ""b"",c")', b'{"(1,x)"}', b"[1,5)", b"{[1,3),[7,9)}", b"{{1.10,2},{3,NaN}}",
        b'{"b":1,  "a": 2, "a":3}', b'{"a": 2, "b": 1}',
    ]  # fmt: skip
    oid = upstream.value("SELECT 'public.money_text'::regtype::oid::int8")
    assert change.relation.columns[1].type_oid == oid


def test_settings_of_role_and_database_do_not_change_the_text(upstream: Upstream) -> None:
    name = conninfo.conninfo_to_dict(upstream.database.url)["dbname"]
    for setting, value in {
        "datestyle": "'SQL, DMY'", "intervalstyle": "iso_8601", "extra_float_digits": "0", "bytea_output": "escape",
        "timezone": "'Asia/Kolkata'", "lc_monetary": "'C'", "default_transaction_read_only": "on",
        "statement_timeout": "'50ms'", "idle_session_timeout": "'50ms'",
    }.items():  # fmt: skip
        upstream.run(f'ALTER ROLE postgres IN DATABASE "{name}" SET {setting} = {value}')
    upstream.run(
        "CREATE TABLE public.t (id int PRIMARY KEY, d date, ts timestamptz, i interval, f float8, b bytea, m money)"
    )
    start = upstream.publish("t")
    upstream.run(
        "INSERT INTO public.t VALUES (1, '0044-03-15 BC', '2024-06-01 12:00:00+00', '1 year 2 mons 3 days',"
        " 0.1::float8 + 0.2, '\\xdeadbeef', 12.5), (2, 'infinity', '-infinity', '-1 mon +1 day', 'NaN', '', -1)"
    )
    assert rows(upstream.changes(start)) == [
        ("I", None, [b"1", b"0044-03-15 BC", b"2024-06-01 12:00:00+00", b"1 year 2 mons 3 days",
                     b"0.30000000000000004", b"\\xdeadbeef", b"$12.50"]),
        ("I", None, [b"2", b"infinity", b"-infinity", b"-1 mons +1 day", b"NaN", b"\\x", b"-$1.00"]),
    ]  # fmt: skip


def test_ddl_brings_a_new_relation(upstream: Upstream) -> None:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    start = upstream.publish("t")
    upstream.run(
        "INSERT INTO public.t VALUES (1)",
        "BEGIN; INSERT INTO public.t VALUES (2); ALTER TABLE public.t ADD more text DEFAULT 'd';"
        " INSERT INTO public.t VALUES (3); COMMIT",
        "ALTER TABLE public.t RENAME more TO less",
        "INSERT INTO public.t VALUES (4, 'x')",
    )
    changes = [change for change in upstream.changes(start) if isinstance(change, Insert)]
    assert [c.new for c in changes] == [[b"1"], [b"2"], [b"3", b"d"], [b"4", b"x"]]
    names = [[column.name for column in c.relation.columns] for c in changes]
    assert names == [["id"], ["id"], ["id", "more"], ["id", "less"]]


def test_messages_of_transactions_come_and_others_do_not(upstream: Upstream) -> None:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    start = upstream.publish("t")
    upstream.run(
        "SELECT pg_logical_emit_message(false, 'p', 'outside')",
        "BEGIN; INSERT INTO public.t VALUES (1); SELECT pg_logical_emit_message(false, 'p', 'not mine');"
        " SELECT pg_logical_emit_message(true, 'p', '\\x00ff'::bytea); COMMIT",
        "BEGIN; SELECT pg_logical_emit_message(true, 'p', 'rolled back'); ROLLBACK",
    )
    insert, message = upstream.changes(start)
    assert isinstance(insert, Insert)
    assert isinstance(message, Message)
    assert (message.prefix, message.content) == ("p", b"\0\xff")


def test_prepared_transactions_come_when_they_commit(upstream: Upstream) -> None:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    start = upstream.publish("t")
    gid = f"gid-{upstream.slot}"
    upstream.run(
        f"BEGIN; INSERT INTO public.t VALUES (1); PREPARE TRANSACTION '{gid}'",
        "INSERT INTO public.t VALUES (2)",
        f"COMMIT PREPARED '{gid}'",
        f"BEGIN; INSERT INTO public.t VALUES (3); PREPARE TRANSACTION '{gid}'",
        f"ROLLBACK PREPARED '{gid}'",
    )
    assert [new for _, _, new in rows(upstream.changes(start))] == [[b"2"], [b"1"]]


@pytest.mark.parametrize("major", [18])
def test_the_database_url_may_carry_options_of_its_own(new_upstream: object, major: int) -> None:
    assert callable(new_upstream)
    one: Upstream = new_upstream(major)
    url = conninfo.make_conninfo(one.database.url, options="-c datestyle=SQL -c work_mem=1MB")
    one.database = Database(one.database.side, url)
    one.run("CREATE TABLE public.t (d date PRIMARY KEY)")
    start = one.publish("t")
    one.run("INSERT INTO public.t VALUES ('2024-06-01')")
    assert rows(one.changes(start)) == [("I", None, [b"2024-06-01"])]
