"""Random histories: whatever the open side did, the closed side holds the same rows as text."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.apply import writer
from contexts.databases import Connection
from contexts.model import Options
from tests.apply.conftest import World

EXAMPLES = int(os.environ.get("CARVEOUT_EXAMPLES", "40"))


@dataclass(frozen=True)
class Shape:
    """A table and, by column, the few literals that its values are drawn from, so that they often meet."""

    name: str
    ddl: str
    values: dict[str, tuple[str, ...]]


INTS = ("1", "2", "3", "4", "5")
WORDS = ("'a'", "'b'", "'A'", "''", "'null'", r"E'x\\ty\t\n'", "null")
BIG = ("repeat('x', 3000)", "repeat('é', 3000)", "'small'", "null")
EXTERNAL = "ALTER TABLE {0} ALTER big SET STORAGE EXTERNAL;"

SHAPES = (
    Shape("plain", "CREATE TABLE plain (id int PRIMARY KEY, v text)", {"id": INTS, "v": WORDS}),
    Shape(
        "toasted", "CREATE TABLE toasted (big text, a text, b int, v text, PRIMARY KEY (b, a));" + EXTERNAL,
        {"a": WORDS[:4], "b": INTS[:3], "v": WORDS, "big": BIG},
    ),
    Shape(
        "swapped", "CREATE TABLE swapped (id int PRIMARY KEY, u int UNIQUE, big text);" + EXTERNAL,
        {"id": INTS, "u": (*INTS, "null"), "big": BIG},
    ),
    Shape(
        "excluded", "CREATE TABLE excluded (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))",
        {"id": INTS, "r": ("'[1,3)'", "'[2,4)'", "'[5,6)'", "'empty'", "null")},
    ),
    Shape(
        "indexed",
        "CREATE TABLE indexed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL UNIQUE, v text,"
        " g text GENERATED ALWAYS AS (code || '!') STORED, big text);"
        "ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code_key;" + EXTERNAL,
        {"id": (*INTS, "DEFAULT"), "code": WORDS[:6], "v": WORDS, "big": BIG},
    ),
    Shape(
        "wholly", "CREATE TABLE wholly (id int PRIMARY KEY, v text, big text);"
        "ALTER TABLE wholly REPLICA IDENTITY FULL;" + EXTERNAL,
        {"id": INTS, "v": WORDS, "big": BIG},
    ),
    Shape(
        "keyless", "CREATE TABLE keyless (a int, f float8, n numeric, j json, big text);"
        "ALTER TABLE keyless REPLICA IDENTITY FULL;" + EXTERNAL,
        {"a": ("1", "2", "null"), "f": ("0", "'-0'"), "n": ("1.0", "1.00"), "j": ("'{}'", "'{ }'"), "big": BIG},
    ),
    Shape(
        "deferred", "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);"
        "ALTER TABLE deferred REPLICA IDENTITY FULL",
        {"id": INTS, "v": WORDS},
    ),
    Shape(
        "scaled",
        "CREATE TABLE scaled (n numeric, f float8, i interval, c char(3), v text[], PRIMARY KEY (n, f, i, c))",
        {
            "n": ("1.0", "1.00", "'NaN'"), "f": ("0", "'-0'"), "i": ("'1 mon'", "'30 days'"), "c": ("'a'", "'b'"),
            "v": ("ARRAY['a', null]", "'{}'", "null"),
        },
    ),
    Shape(
        "typed",
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);"
        "CREATE DOMAIN cents AS numeric(12, 2) NOT NULL;"
        'CREATE TABLE typed (m mood, t text, p pair, d cents, b bytea, "O%, s""x" jsonb, ms mood[], r tstzrange,'
        " PRIMARY KEY (m, t))",
        {
            "m": ("'sad'", "'ok'"), "t": ("'a'", "'A'", "'b'"), "p": ("ROW(1, 'x,\"y')::public.pair", "null"),
            "d": ("1", "-0.10"), "b": (r"'\x'", r"'\x5c00ff'"), '"O%, s""x"': ("'{\"a\": 1.10}'", "'null'", "null"),
            "ms": ("'{sad,ok}'", "null"), "r": ("'[2024-01-01,infinity)'", "'empty'"),
        },
    ),
)  # fmt: skip


def histories(shape: Shape) -> st.SearchStrategy[list[list[str]]]:
    """Transactions of statements against one table."""
    rows = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in shape.values.items()})
    some = st.integers(0, 4).map(
        lambda n: f"WHERE ctid = (SELECT ctid FROM public.{shape.name} ORDER BY ctid OFFSET {n} LIMIT 1)"
    )
    where = st.one_of(some, some, some, st.just(""))
    insert = rows.map(
        lambda row: (
            f"INSERT INTO public.{shape.name} ({', '.join(row)}) OVERRIDING SYSTEM VALUE"
            f" VALUES ({', '.join(row.values())})"
        )
    )
    columns = st.lists(st.sampled_from(list(shape.values)), min_size=1, max_size=2, unique=True)
    update = st.builds(
        lambda names, row, cond: (
            f"UPDATE public.{shape.name} SET {', '.join(f'{name} = {row[name]}' for name in names)} {cond}"
        ),
        columns, rows, where,
    )  # fmt: skip
    delete = where.map(lambda cond: f"DELETE FROM public.{shape.name} {cond}")
    truncate = st.just(f"TRUNCATE public.{shape.name}")
    statement = st.one_of(
        insert, insert, insert, update, update, update, delete, *([truncate] if shape.name == "plain" else [])
    )
    return st.lists(st.lists(statement, min_size=1, max_size=8), min_size=1, max_size=6)


def run(conn: Connection, transaction: list[str]) -> None:
    """As much of the transaction as the database accepts."""
    try:
        with conn.transaction():
            for statement in transaction:
                try:
                    with conn.transaction():
                        conn.execute(statement)
                except (psycopg.IntegrityError, psycopg.errors.GeneratedAlways):
                    pass
    except psycopg.IntegrityError:
        pass  # a deferred constraint at commit


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_any_history(world: World, shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    world.both(shape.ddl.replace("{0}", shape.name))
    world.start(shape.name)

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(
        history=histories(shape),
        few=st.sampled_from([0, 0, 2, 1 << 30]),
        batch_rows=st.sampled_from([2, 7, 1000]),
        every=st.integers(1, 6),
        packed=st.booleans(),
        ahead=st.booleans(),
    )
    def check(history: list[list[str]], few: int, batch_rows: int, every: int, packed: bool, ahead: bool) -> None:
        monkeypatch.setattr(writer, "FEW", few)
        world.applier.close()
        applier = world.open(options=Options(batch_rows=batch_rows))
        for transaction in history:
            run(world.shared, transaction)
        for number, committed in enumerate(world.slot.read_packed() if packed else world.read(), 1):
            applier.apply(committed)
            if number % every == 0:
                if ahead:
                    applier.commit_ahead()
                else:
                    applier.commit()
        applier.commit()
        world.same()

    check()
