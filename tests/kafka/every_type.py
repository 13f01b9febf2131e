"""A table with a column of every type that arrives whole through Kafka, and the values that histories draw from."""

from __future__ import annotations

from tests.stream.shapes import INTS, SCHEMA, Shape

LONG = "repeat('x', 3000)"
#: Type as ``format_type`` names it -> literals. Large ones are stored apart, so updates leave them unchanged.
BUILT_IN = {
    "bigint": ("9223372036854775807", "-9223372036854775808", "0"),
    "bit(1)": ("B'1'", "B'0'"),
    "bit(64)": ("B'101'::bit(64)", "0::bit(64)", "(-1)::bit(64)"),
    "boolean": ("true", "false"),
    "box": ("'((1,1),(0,0))'", "'((Infinity,1e300),(-0,0))'"),
    "bytea": (r"'\x'", r"'\x5c00ff0a09'", f"convert_to({LONG}, 'UTF8')"),
    '"char"': ("'x'", "''"),
    "character(4)": ("'ab'", "''"),
    "character varying": ("'a'", "''", LONG),
    "cidr": ("'10.0.0.0/8'", "'::/0'", "'192.168.100.128/25'"),
    "circle": ("'<(0,0),1.5>'", "'<(1,1),0>'"),
    "date": ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'2024-02-29'", "'5874897-12-31'"),
    "datemultirange": ("'{[2024-01-01,2024-02-01),[2025-01-01,infinity)}'", "'{}'"),
    "daterange": ("'[2024-01-01,2024-02-01)'", "'empty'", "'(,)'"),
    "double precision": ("0.1::float8 + 0.2", "'-Infinity'", "5e-324", "'-0'", "'NaN'", "1.7976931348623157e308"),
    "inet": ("'10.0.0.1/8'", "'::1'", "'::ffff:1.2.3.4/96'"),
    "int4multirange": ("'{[1,3),[7,9)}'", "'{}'", "'{(,)}'"),
    "int4range": ("'[1,3)'", "'empty'", "'(,5)'"),
    "int8multirange": ("'{[1,3),[9223372036854775806,)}'", "'{}'"),
    "int8range": ("'[-9223372036854775808,3)'", "'empty'"),
    "integer": ("2147483647", "-2147483648"),
    "interval": (
        "'1 mon'",
        "'30 days'",
        "'-1 year 2 mons -3 days 04:05:06.7'",
        "'-00:00:00.000001'",
        "'9999999 years'",
    ),
    "json": ("""'{"b" : 1, "a":1, "b":2}'""", "'null'", "'9007199254740993'", f"to_json({LONG})"),
    "jsonb": ("""'{"n": 1.10}'""", "'null'", "'[]'", f"to_jsonb({LONG})"),
    "jsonpath": ("'$.a[*] ? (@ > 1)'", "'strict $'"),
    "line": ("'{1,2,3}'", "'{-0,1,1e300}'"),
    "lseg": ("'[(0,0),(1,1)]'", "'[(NaN,0),(0,-Infinity)]'"),
    "macaddr": ("'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'", "'ff:ff:ff:ff:ff:ff:ff:ff'"),
    "money": ("'-12.34'", "'92233720368547758.07'", "'0'"),
    "name": ("'n'", "'N n'"),
    "numeric": ("1.10", "'NaN'", "'-Infinity'", "1e60", "0.000", "repeat('9', 3000)::numeric"),
    "numeric(10,2)": ("1.10", "'NaN'", "-99999999.99"),
    "numeric(5,-2)": ("12300", "-9999900", "'NaN'"),
    "nummultirange": ("'{[1.10,2),[3,4]}'", "'{}'"),
    "numrange": ("'[1.10,2)'", "'empty'", "'(,)'"),
    "oid": ("0", "4294967295"),
    "path": ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
    "pg_lsn": ("'0/0'", "'FFFFFFFF/FFFFFFFF'"),
    "point": ("'(1,2)'", "'(NaN,-0)'", "'(1e300,-Infinity)'"),
    "polygon": ("'((0,0),(1,1),(1,0))'", "'((0,0))'"),
    "real": ("'-0'", "'1e-45'", "'NaN'", "3.4028235e38", "'Infinity'"),
    "smallint": ("-32768", "7"),
    "text": ("'a'", "''", r"E'\\x\ty\n\r'", "'ÿþ 🐘'", "'null'", LONG),
    "tid": ("'(0,1)'", "'(4294967295,65535)'"),
    "time without time zone": ("'24:00'", "'00:00:00.000001'", "'12:00'"),
    "timestamp without time zone": ("'-infinity'", "'infinity'", "'0044-03-15 12:00:00.5 BC'", "'2024-06-01 12:00'"),
    "timestamp(0) without time zone": ("'-infinity'", "'2024-06-01 12:00'"),
    "timestamp with time zone": (
        "'0001-01-01 0:00+0'",
        "'2024-06-01 12:00+02'",
        "'infinity'",
        "'0044-03-15 1:00+0 BC'",
    ),
    "tsmultirange": ("'{[2024-01-01 00:00,infinity)}'", "'{}'"),
    "tsquery": ("'a & !b'", "'a <-> b'"),
    "tsrange": ("'[2024-01-01 00:00:00.5,2024-01-02)'", "'empty'"),
    "tstzmultirange": ("'{[2024-01-01 00:00+02,infinity)}'", "'{}'"),
    "tstzrange": ("'[2024-01-01 00:00+02,infinity)'", "'empty'", "'(,)'"),
    "tsvector": ("'a:1A b:2'", "''"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    "xid": ("'42'", "'4294967295'"),
    "xid8": ("'42'", "'18446744073709551615'"),
    "h.mood": ("'sad'", "'it''s'"),
    "h.pair": ("""ROW(1, 'a,"\\ b')::h.pair""", "ROW(null, '')::h.pair", f"ROW(7, {LONG})::h.pair"),
    "h.cents": ("1", "-0.10"),
    "h.code": ("'abcdef'", "''"),
}
#: Their arrays arrive whole where they are plain: one dimension that begins at 1.
ARRAYS = {
    "bigint[]": ("'{1,null,-9223372036854775808}'", "'{}'", "array_fill(7::bigint, '{900}')"),
    "bytea[]": (r"ARRAY['\x00', '\x', null]::bytea[]", "'{}'", f"ARRAY[convert_to({LONG}, 'UTF8')]"),
    "character(3)[]": ("ARRAY['a', '', null]", "'{}'"),
    "character varying[]": ("ARRAY['null', null, 'NULL']", "'{}'"),
    "integer[]": ("'{1,null,-2147483648}'", "'{}'", "array_fill(7, '{1800}')"),
    "json[]": ("""ARRAY['{"a" : 1}', 'null', null]::json[]""", "'{}'"),
    "jsonb[]": ("""ARRAY['{"a": 1.10}', 'null', null]::jsonb[]""", "'{}'"),
    "text[]": ("""ARRAY['a"b', 'null', '', '{}', E'\\\\', null]""", "'{}'", f"ARRAY[{LONG}]"),
    "uuid[]": ("ARRAY['00000000-0000-0000-0000-000000000001', null]::uuid[]", "'{}'"),
}
#: An unchanged value arrives as NULL: these need REPLICA IDENTITY FULL.
FULL = {
    "bit(65)": ("B'1'::bit(65)", "0::bit(65)", "(-1)::bit(65)"),
    "bit(20000)": ("B'1'::bit(20000)", "repeat('10', 10000)::bit(20000)"),
}
FULL_ARRAYS = {
    "boolean[]": ("'{t,f,null}'", "'{}'"),
    "double precision[]": ("'{NaN,-0,null,0.1,Infinity}'", "'{}'", "array_fill(0.5::float8, '{900}')"),
    "real[]": ("'{NaN,-0,null,1e-45}'", "'{}'"),
    "smallint[]": ("'{-32768,null,7}'", "'{}'"),
}
#: Of extensions (and of a server that was built with libxml).
EXTENDED = {
    "public.citext": ("'a'", "'A'", LONG),
    "public.lo": ("0", "4294967295"),
    "public.hstore": ("'a=>1'", """'"a b"=>NULL, "c\\"d"=>""'""", f"public.hstore('k', {LONG})"),
    "public.ltree": ("'a.b'", "''"),
    "xml": ("'<a b=\"1\"/>'", "'x &amp; y'"),
}
EXTENSIONS = ";".join(f"CREATE EXTENSION {name} SCHEMA public" for name in ("citext", "hstore", "lo", "ltree"))


def _shape(name: str, types: dict[str, tuple[str, ...]], *, full: bool = False, domains: bool = False) -> Shape:
    """A table with a column of each type, or of a domain over it."""
    names = dict(zip(types, (f"{SCHEMA}.{name}_{n}" if domains else kind for n, kind in enumerate(types)), strict=True))
    columns = {f"c{number}": kind for number, kind in enumerate(types)}
    made = [f"CREATE DOMAIN {names[kind]} AS {kind}" for kind in types] if domains else []
    listed = ", ".join(f"{column} {names[kind]}" for column, kind in columns.items())
    stored = [f"ALTER {c} SET STORAGE EXTERNAL" for c, kind in columns.items() if LONG in "".join(types[kind])]
    ddl = [
        *made,
        f"CREATE TABLE {{t}} (id int PRIMARY KEY, {listed})",
        *([f"ALTER TABLE {{t}} {', '.join(stored)}"] if stored else ()),
        *(["ALTER TABLE {t} REPLICA IDENTITY FULL"] if full else ()),
    ]
    values = {c: (*types[kind], *(() if kind == "h.cents" else ("null",))) for c, kind in columns.items()}
    return Shape(name, ";".join(ddl), {"id": INTS, **values})


EVERY = _shape("every", {**BUILT_IN, **ARRAYS})
EVERY_FULL = _shape("every_full", {**BUILT_IN, **ARRAYS, **FULL, **FULL_ARRAYS}, full=True)
EVERY_DOMAIN = _shape(
    "every_domain", {k: v for k, v in BUILT_IN.items() if not k.startswith(("bit(", "h."))}, domains=True
)
EVERY_EXTENDED = _shape("every_extended", EXTENDED)


def covering(shape: Shape) -> list[str]:
    """Statements by which every value of every column arrives once, is left alone once, and follows every other."""
    count = max(len(pool) for pool in shape.values.values())
    columns = [column for column in shape.values if column != "id"]

    def values(row: int) -> list[str]:
        return [shape.values[column][row % len(shape.values[column])] for column in columns]

    rows = ", ".join(f"({row}, {', '.join(values(row))})" for row in range(count))
    shifted = [
        f"UPDATE {shape.table} SET ({', '.join(columns)}) = ROW ({', '.join(values(row + 1))}) WHERE id = {row}"
        for row in range(count)
    ]
    return [
        f"INSERT INTO {shape.table} (id, {', '.join(columns)}) VALUES {rows}",
        f"UPDATE {shape.table} SET {columns[0]} = {columns[0]}",
        f"UPDATE {shape.table} SET id = id + 100 WHERE id % 2 = 0",
        f"UPDATE {shape.table} SET id = id - 100 WHERE id >= 100",
        *shifted,
        f"DELETE FROM {shape.table} WHERE id % 3 = 0",
    ]


def plain(shape: Shape, types: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The array columns of a shape, as ``plain_arrays`` names them."""
    return tuple(f"{SCHEMA}.{shape.name}.c{number}" for number, kind in enumerate(types) if kind.endswith("[]"))


PLAIN = (
    *plain(EVERY, {**BUILT_IN, **ARRAYS}),
    *plain(EVERY_FULL, {**BUILT_IN, **ARRAYS, **FULL, **FULL_ARRAYS}),
)
