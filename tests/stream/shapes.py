"""Tables of every kind, and for each column the few values that random histories draw from, so that they meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCHEMA: Final = "h"

TYPES_SQL: Final = """
CREATE SCHEMA h;
CREATE TYPE h.mood AS ENUM ('sad', 'ok', 'it''s');
CREATE TYPE h.pair AS (a int, b text);
CREATE DOMAIN h.cents AS numeric(12, 2) NOT NULL CHECK (value < 1000000);
CREATE DOMAIN h.code AS varchar(12);
CREATE TYPE h.span AS RANGE (subtype = h.cents);
CREATE TABLE h.marked (id bigserial, lsn pg_lsn DEFAULT pg_current_wal_insert_lsn());
CREATE TABLE h.log_of_told (xid xid8 DEFAULT pg_current_xact_id(), n bigint, topic text, key text, payload text);
CREATE FUNCTION h.note_told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO h.log_of_told (n, topic, key, payload) VALUES (NEW.n, NEW.topic, NEW.key, NEW.payload);
    RETURN NULL;
END $$;
"""


@dataclass(frozen=True, eq=False)
class Shape:
    """A table; ``{t}`` in the DDL is its name."""

    name: str
    ddl: str
    #: By column: literals of its type.
    values: dict[str, tuple[str, ...]]
    #: Of another column order on the closed side, where that differs.
    closed_ddl: str = ""
    has_key: bool = True

    @property
    def table(self) -> str:
        """The qualified name."""
        return f"{SCHEMA}.{self.name}"

    def statements(self, *, closed: bool) -> str:
        """The DDL for a side."""
        return ((closed and self.closed_ddl) or self.ddl).replace("{t}", self.table)


INTS = ("1", "2", "3", "4", "5", "-7")
WORDS = ("'a'", "'b'", "'A'", "''", "'null'", r"E'x\\ty\t\n\r'", "'ÿþ 🐘'")
BIG = ("repeat('x', 3000)", "repeat('é\\', 2500)", "repeat(E'\\t\\n', 2100)", "'small'", "null")
KEPT_OUT = "; ALTER TABLE {t} ALTER big SET STORAGE EXTERNAL"

#: Column: (type, values). All but names of objects, which mean something else on each server, and xml,
#: which needs a server that was built with it.
TYPES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "c_bool": ("boolean", ("true", "false")),
    "c_int2": ("smallint", ("-32768", "7")),
    "c_int8": ("bigint", ("9223372036854775807", "-9223372036854775808")),
    "c_float4": ("real", ("'-0'", "'1e-45'", "'NaN'")),
    "c_float8": ("double precision", ("0.1::float8 + 0.2", "'-Infinity'", "5e-324")),
    "c_numeric": ("numeric", ("1.10", "'NaN'", "'-Infinity'", "1e60")),
    "c_money": ("money", ("'-12.34'", "'92233720368547758.07'")),
    "c_varchar": ("varchar(5)", ("'a'", "'12345'")),
    "c_char": ("char(4)", ("'ab'", "''")),
    "c_char1": ('"char"', ("'x'", "''")),
    "c_name": ("name", ("'n'", "'N n'")),
    "c_bytea": ("bytea", (r"'\x'", r"'\x5c00ff0a09'")),
    "c_uuid": ("uuid", ("'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'")),
    "c_bit": ("bit(3)", ("B'101'", "B'000'")),
    "c_varbit": ("varbit", ("B'1'", "B''")),
    "c_date": ("date", ("'infinity'", "'0044-03-15 BC'", "'2024-02-29'")),
    "c_time": ("time", ("'24:00'", "'00:00:00.000001'")),
    "c_timetz": ("timetz", ("'24:00-15:59'", "'12:00:00.5+05:30'")),
    "c_timestamp": ("timestamp(3)", ("'-infinity'", "'294276-12-31 23:59:59.999'")),
    "c_timestamptz": ("timestamptz", ("'0001-01-01 00:00+00'", "'2024-06-01 12:00+02'", "'infinity'")),
    "c_interval": ("interval", ("'1 mon'", "'30 days'", "'-1 year 2 mons -3 days 04:05:06.7'")),
    "c_json": ("json", ("""'{"b" : 1, "a":1, "b":2}'""", "'null'", "'9007199254740993'")),
    "c_jsonb": ("jsonb", ("""'{"n": 1.10}'""", "'null'", "'[]'")),
    "c_inet": ("inet", ("'10.0.0.1/8'", "'::1'")),
    "c_cidr": ("cidr", ("'10.0.0.0/8'", "'::/0'")),
    "c_macaddr": ("macaddr", ("'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'")),
    "c_point": ("point", ("'(1,2)'", "'(NaN,-0)'")),
    "c_path": ("path", ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'")),
    "c_circle": ("circle", ("'<(0,0),1.5>'", "'<(1,1),0>'")),
    "c_tsvector": ("tsvector", ("'a:1A b:2'", "''")),
    "c_tsquery": ("tsquery", ("'a & !b'", "'a <-> b'")),
    "c_lsn": ("pg_lsn", ("'0/0'", "'FFFFFFFF/FFFFFFFF'")),
    "c_range": ("tstzrange", ("'[2024-01-01,infinity)'", "'empty'", "'(,)'")),
    "c_multirange": ("int4multirange", ("'{[1,3),[7,9)}'", "'{}'")),
    "c_ints": ("int[]", ("'[2:3]={1,2}'", "'{}'", "'{{1,null},{3,4}}'")),
    "c_texts": ("text[]", ("""ARRAY['a"b', 'null', '', '{}', E'\\\\', null]""", "'{}'")),
    "c_mood": ("h.mood", ("'sad'", "'it''s'")),
    "c_moods": ("h.mood[]", ("""ARRAY['it''s', null]::h.mood[]""", "'{}'")),
    "c_pair": ("h.pair", ("""ROW(1, 'a,"\\ b')::h.pair""", "ROW(null, '')::h.pair", "ROW(null, null)::h.pair")),
    "c_pairs": ("h.pair[]", ("""ARRAY[ROW(1, 'x y')::h.pair, null]""", "'{}'")),
    "c_code": ("h.code", ("'abcdef'", "''")),
    "c_codes": ("h.code[]", ("ARRAY['a', null]::h.code[]", "'{}'")),
    "c_span": ("h.span", ("'[1.00,2.50)'", "'empty'")),
}

SHAPES: Final = (
    Shape("plain", "CREATE TABLE {t} (id int PRIMARY KEY, v text)", {"id": INTS, "v": (*WORDS, "null")}),
    Shape(
        "pairs", "CREATE TABLE {t} (big text, b text, v int, a int, PRIMARY KEY (a, b))" + KEPT_OUT,
        {"a": INTS[:3], "b": WORDS[:4], "v": (*INTS, "null"), "big": BIG},
        closed_ddl="CREATE TABLE {t} (a int, big text, v int, b text, PRIMARY KEY (a, b))" + KEPT_OUT,
    ),
    Shape(
        "words", "CREATE TABLE {t} (gone int, k text PRIMARY KEY, big text, v h.mood);"
        "ALTER TABLE {t} DROP gone, ALTER k SET STORAGE EXTERNAL" + KEPT_OUT,
        {"k": (*WORDS[:4], "repeat('k', 2200)"), "big": BIG, "v": ("'sad'", "'ok'", "null")},
        closed_ddl="CREATE TABLE {t} (k text PRIMARY KEY, big text, v h.mood)" + KEPT_OUT,
    ),
    Shape(
        "moods", "CREATE TABLE {t} (k h.mood, u uuid, n numeric, v h.pair, PRIMARY KEY (u, k, n))",
        {"k": ("'sad'", "'ok'"), "u": TYPES["c_uuid"][1], "n": ("1.0", "1.00", "'NaN'"), "v": TYPES["c_pair"][1]},
    ),
    Shape(
        "scaled", "CREATE TABLE {t} (f float8, i interval, c char(3), d h.cents, v text[], PRIMARY KEY (f, i, c, d))",
        {
            "f": ("0", "'-0'"), "i": ("'1 mon'", "'30 days'"), "c": ("'a'", "'b'"), "d": ("1", "1.50"),
            "v": ("ARRAY['a', null]", "'{}'", "null"),
        },
    ),
    Shape(
        "swapped", "CREATE TABLE {t} (id int PRIMARY KEY, u int UNIQUE, w text, big text, UNIQUE (w, u))" + KEPT_OUT,
        {"id": INTS, "u": (*INTS, "null"), "w": WORDS[:3], "big": BIG},
    ),
    Shape(
        "excluded", "CREATE TABLE {t} (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))",
        {"id": INTS, "r": ("'[1,3)'", "'[2,4)'", "'[5,6)'", "'empty'", "null")},
    ),
    Shape(
        "indexed", "CREATE TABLE {t} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code h.code NOT NULL, v text,"
        " g text GENERATED ALWAYS AS (code || '!') STORED, big text, n int GENERATED BY DEFAULT AS IDENTITY);"
        "CREATE UNIQUE INDEX indexed_code ON {t} (code); ALTER TABLE {t} REPLICA IDENTITY USING INDEX indexed_code"
        + KEPT_OUT,
        {"id": (*INTS, "DEFAULT"), "code": WORDS[:6], "v": (*WORDS, "null"), "big": BIG, "n": (*INTS, "DEFAULT")},
    ),
    Shape(
        "wholly", "CREATE TABLE {t} (id int PRIMARY KEY, v text, big text); ALTER TABLE {t} REPLICA IDENTITY FULL"
        + KEPT_OUT,
        {"id": INTS, "v": (*WORDS, "null"), "big": BIG},
    ),
    Shape(
        "keyless", "CREATE TABLE {t} (a int, f float8, n numeric, j json, p point, big text);"
        "ALTER TABLE {t} REPLICA IDENTITY FULL" + KEPT_OUT,
        {
            "a": ("1", "2", "null"), "f": ("0", "'-0'"), "n": ("1.0", "1.00"), "j": ("'{}'", "'{ }'"),
            "p": ("'(1,2)'", "null"), "big": BIG,
        },
        has_key=False,
    ),
    Shape(
        "deferred", "CREATE TABLE {t} (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text, big text);"
        "ALTER TABLE {t} REPLICA IDENTITY FULL" + KEPT_OUT,
        {"id": INTS, "v": (*WORDS, "null"), "big": BIG}, has_key=False,
    ),
    Shape(
        "parted", "CREATE TABLE {t} (id int, k text, v text, big text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);"
        "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES IN ('a');"
        "CREATE TABLE {t}_b PARTITION OF {t} FOR VALUES IN ('b') PARTITION BY RANGE (id);"
        "CREATE TABLE {t}_b1 PARTITION OF {t}_b FOR VALUES FROM (MINVALUE) TO (3);"
        "CREATE TABLE {t}_b2 PARTITION OF {t}_b FOR VALUES FROM (3) TO (MAXVALUE);"
        "CREATE TABLE {t}_rest (v text, big text, k text NOT NULL, id int NOT NULL);"
        "ALTER TABLE {t} ATTACH PARTITION {t}_rest DEFAULT" + KEPT_OUT,
        {"id": INTS, "k": WORDS[:4], "v": (*WORDS, "null"), "big": BIG},
    ),
    Shape(
        "typed", "CREATE TABLE {t} (id int PRIMARY KEY, d h.cents, "
        + ", ".join(f"{name} {type_}" for name, (type_, _) in TYPES.items()) + ")",
        {"id": INTS, "d": ("1", "-0.10"), **{name: (*pool, "null") for name, (_, pool) in TYPES.items()}},
    ),
    Shape(
        "typed_full", "CREATE TABLE {t} (d h.cents, "
        + ", ".join(f"{name} {type_}" for name, (type_, _) in TYPES.items())
        + "); ALTER TABLE {t} REPLICA IDENTITY FULL",
        {"d": ("1", "-0.10"), **{name: (*pool, "null") for name, (_, pool) in TYPES.items()}}, has_key=False,
    ),
    Shape(
        # An outbox, and beside it what was inserted, whatever became of it.
        "told", "CREATE TABLE {t} (id int PRIMARY KEY, topic text NOT NULL, key text, payload text, n bigserial)"
        "; CREATE TRIGGER noted AFTER INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION h.note_told()",
        {"id": INTS, "topic": WORDS[:2], "key": (*WORDS, "null"), "payload": BIG},
        closed_ddl="CREATE TABLE {t} (n bigint, id int PRIMARY KEY, topic text NOT NULL, key text, payload text)",
    ),
    Shape("wide", "CREATE TABLE {t} (id int PRIMARY KEY, v text)", {"id": INTS, "v": WORDS}),
)  # fmt: skip
BY_NAME: Final = {shape.name: shape for shape in SHAPES}
