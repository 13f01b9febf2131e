"""Every type of PostgreSQL, and what becomes of a column of it on the way through Kafka: ``docs/kafka-types.md``.

``python -m tests.kafka.type_table`` writes the page. The types are asked of real servers, so that none is left out.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from cdc.kafka.decoder import lossless
from cdc.kafka.settings import Encoding
from cdc.kafka.settings import lossless as our_settings
from contexts.catalog import Column, read_tables
from contexts.databases import Connection, Database
from contexts.model import Side, TableName
from tests.conftest import running_servers

PAGE = Path(__file__).parents[2] / "docs" / "kafka-types.md"
ENCODING = Encoding.of({**our_settings(), "unavailable.value.placeholder": "p" * 30})
BUILT_IN, EXTENDED = 18, 15
#: Types whose modifier decides, beside the type itself.
MODIFIED = (
    "bit(64)",
    "bit(65)",
    "character varying(9)",
    "numeric(10,2)",
    "numeric(5,-2)",
    "time(3) without time zone",
    "timestamp(0) without time zone",
)
OWN = """
CREATE TYPE t.enum AS ENUM ('a', 'b'); CREATE TYPE t.composite AS (a int, b text);
CREATE TYPE t.range AS RANGE (subtype = float4, multirange_type_name = t.multirange)
"""
OWN_TYPES = ("t.enum", "t.composite", "t.range", "t.multirange")
HEAD = """# Types through Kafka

<!-- made by python -m tests.kafka.type_table: change the code, not this file -->

What `carveout check` says of a column, by its type, where the stream goes through Debezium with Carveout's settings.
"yes": every value arrives as PostgreSQL wrote it. "FULL": with `REPLICA IDENTITY FULL` of its table, since an unchanged
TOAST value arrives as NULL. "plain": where `plain_arrays` of `[kafka]` declares the column to hold arrays of one
dimension that begin at 1, since Debezium sends neither bounds nor further dimensions. "no": refused, and why is below;
the embedded source takes every type.
"""


@dataclass(frozen=True)
class Verdict:
    """What is said of one column."""

    word: str
    reason: str = ""

    @classmethod
    def of(cls, column: Column | None) -> Verdict:
        """The least that has to be done for the column; nothing where there can be none."""
        if column is None:
            return cls("-")
        for word, full, plain in (("yes", False, False), ("plain", False, True), ("FULL", True, False),
                                  ("plain, FULL", True, True)):  # fmt: skip
            refusal = lossless(column, ENCODING, identity_full=full, plain_array=plain)
            if refusal is None:
                return cls(word)
        assert refusal is not None
        return cls("no", refusal.reason)


@dataclass(frozen=True)
class TypeRow:
    """A type, an array of it, and a domain over it."""

    name: str
    own: Verdict
    array: Verdict
    domain: Verdict


def built_in(conn: Connection) -> list[str]:
    """Every type of the server that a column can have, without arrays and the row types of catalogs."""
    rows = conn.execute(
        "SELECT format_type(oid, NULL) FROM pg_type WHERE oid < 16384 AND typtype IN ('b', 'r', 'm', 'e', 'd')"
        " AND typnamespace = 'pg_catalog'::regnamespace"
        " AND NOT (typelem <> 0 AND typsubscript::text = 'array_subscript_handler')"
    )
    return sorted(row[0] for row in rows)


def extended(conn: Connection) -> list[str]:
    """Install every extension that the server has and can; the types that they bring."""
    for (name,) in conn.execute("SELECT name FROM pg_available_extensions ORDER BY name").fetchall():
        with suppress(psycopg.Error), conn.transaction():  # some need a library that is not here
            conn.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}" CASCADE')
    rows = conn.execute(
        "SELECT DISTINCT e.extname || '.' || t.typname, format_type(t.oid, NULL) FROM pg_type t"
        " JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'"
        " JOIN pg_extension e ON e.oid = d.refobjid"
        " WHERE t.typtype IN ('b', 'r', 'm', 'e', 'd') AND t.typelem = 0 ORDER BY 1"
    )
    return [row[1] for row in rows]


def table(conn: Connection, types: list[str]) -> list[TypeRow]:
    """The verdicts on columns of these types, as the catalog describes them."""
    columns, domains = [], []
    for number, name in enumerate(types):
        domains.append(f"CREATE DOMAIN t.d{number} AS {name}")
        columns.append(f"c{number} {name}, d{number} t.d{number}" + f", a{number} {name}[]" * has_array(conn, name))
    conn.execute(("DROP SCHEMA IF EXISTS t CASCADE; CREATE SCHEMA t;" + OWN).encode())
    conn.execute(";".join(domains).encode())
    conn.execute(f"CREATE TABLE t.t ({', '.join(columns)})".encode())
    [found] = read_tables(conn, [TableName("t", "t")]).values()
    columns_of = {column.name: column for column in found.columns}
    return [
        TypeRow(name, *(Verdict.of(columns_of.get(f"{kind}{number}")) for kind in "cad"))
        for number, name in enumerate(types)
    ]


def has_array(conn: Connection, name: str) -> bool:
    """Whether there is an array of the type."""
    row = conn.execute("SELECT to_regtype(%s) IS NOT NULL", [f"{name}[]"]).fetchone()
    assert row is not None
    return bool(row[0])


def page(builtin: list[TypeRow], own: list[TypeRow], extensions: list[TypeRow]) -> str:
    """The page of the documentation."""
    parts = [HEAD]
    for title, rows in (("Built in", builtin), ("Of a user", own), ("Of extensions", extensions)):
        parts.append(f"## {title}\n\n| type | a column | an array | under a domain |\n|---|---|---|---|")
        parts += [f"| `{r.name}` | {r.own.word} | {r.array.word} | {r.domain.word} |" for r in rows]
        parts.append("")
    reasons: dict[str, list[str]] = {}
    for row in (*builtin, *own, *extensions):
        for shown, verdict in ((row.name, row.own), (f"{row.name}[]", row.array), (f"{row.name} (domain)", row.domain)):
            if verdict.reason:
                reasons.setdefault(verdict.reason, []).append(f"`{shown}`")
    parts.append("## Why no\n\n| reason | types |\n|---|---|")
    parts += [f"| {reason} | {', '.join(names)} |" for reason, names in sorted(reasons.items())]
    return "\n".join(parts) + "\n"


def of_servers(newest: Connection, with_extensions: Connection) -> tuple[list[TypeRow], list[TypeRow], list[TypeRow]]:
    """All rows: built in, of a user, of extensions."""
    brought = extended(with_extensions)
    return (
        table(newest, sorted([*built_in(newest), *MODIFIED])),
        table(newest, list(OWN_TYPES)),
        table(with_extensions, brought),
    )


def main() -> None:
    """Write the page."""
    with running_servers() as server:
        one, other = (Database(Side.SHARED, server(major).url()) for major in (BUILT_IN, EXTENDED))
        with one.connect("types") as newest, other.connect("types", search_path="public") as extensions:
            PAGE.write_text(page(*of_servers(newest, extensions)), encoding="utf-8")


if __name__ == "__main__":
    main()
