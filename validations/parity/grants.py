"""Whether the roles that a context declares may do what it declares, on one side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import Context, TableName
from validations.parity.finding import Finding
from validations.parity.sequences import read_sequences

_SQL = sqlfiles.load("validations.parity", "parity.sql")


def grants(conn: Connection, context: Context) -> list[Finding]:
    """What the declared roles lack on this side; each fix is the exact statement."""
    wanted = [
        (grant.role, table, privilege)
        for grant in context.grants
        for table in grant.tables or context.table_names
        for privilege in grant.privileges
    ]
    arguments = {
        "roles": [role for role, _, _ in wanted],
        "schemas": [table.schema for _, table, _ in wanted],
        "names": [table.name for _, table, _ in wanted],
        "privileges": [privilege for _, _, privilege in wanted],
    }
    rows = conn.execute(_SQL["grants"], arguments).fetchall()
    known = {row[0] for row in rows if row[5]}
    findings = [
        Finding("role", role, "the role does not exist on this side", _text("CREATE ROLE {} LOGIN", role))
        for role in sorted({row[0] for row in rows} - known)
    ]
    rows = [row for row in rows if row[5]]
    inserts = [(role, table) for role, table, privilege in wanted if privilege == "insert" and role in known]
    return [*findings, *_reach(rows), *_tables(rows), *_sequences(conn, inserts)]


def _reach(rows: list[tuple[object, ...]]) -> Iterator[Finding]:
    for role, name in sorted({(str(r[0]), str(r[8])) for r in rows if r[7] is False}):
        yield Finding("grant", name, f"{role} may not connect", _text("GRANT CONNECT ON DATABASE {} TO {}", name, role))
    for role, schema in sorted({(str(r[0]), str(r[1])) for r in rows if r[6] is False}):
        detail = f"{role} may not use the schema"
        yield Finding("grant", schema, detail, _text("GRANT USAGE ON SCHEMA {} TO {}", schema, role))


def _tables(rows: list[tuple[object, ...]]) -> Iterator[Finding]:
    lacking: dict[tuple[str, TableName], list[str]] = defaultdict(list)
    for role, schema, name, privilege, may, *_ in rows:
        table = TableName(str(schema), str(name))
        if may is None:
            yield Finding("table", str(table), f"missing, so {role} has no grant on it", "run the revisions")
        elif not may:
            lacking[str(role), table].append(str(privilege).upper())
    for (role, table), privileges in lacking.items():
        list_ = ", ".join(sorted(set(privileges)))
        fix = f"GRANT {list_} ON {sql.Identifier(*table).as_string()} TO {sql.Identifier(role).as_string()}"
        yield Finding("grant", str(table), f"{role} lacks {list_}", fix)


def _sequences(conn: Connection, inserts: Iterable[tuple[str, TableName]]) -> Iterator[Finding]:
    """A default that calls ``nextval`` runs with the rights of who inserts; an identity column's does not."""
    wanted = list(dict.fromkeys(inserts))
    found = read_sequences(conn, {table for _, table in wanted})
    for role, table in wanted:
        for (owner, _), sequence in found.items():
            name = sql.Identifier(*sequence.name).as_string()
            if owner != table or sequence.identity:
                continue
            if conn.execute(_SQL["sequence_grant"], (role, name)).fetchall() != [(True,)]:
                fix = f"GRANT USAGE ON SEQUENCE {name} TO {sql.Identifier(role).as_string()}"
                yield Finding("grant", str(sequence.name), f"{role} lacks USAGE", fix)


def _text(statement: str, *names: str) -> str:
    return sql.SQL(statement).format(*map(sql.Identifier, names)).as_string()
