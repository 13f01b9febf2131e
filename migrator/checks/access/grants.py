"""Every declared role exists on the service side and may do there what the context declares.

A missing role is a blocker at once. Missing rights are a warning until the stream runs, since a revision of the
service database may still bring them, and a blocker from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Context, Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning, words

_SQL = sqlfiles.load("migrator.checks.access", "grants.sql")
Wanted = Mapping[str, Sequence[str]]


def check(environment: Environment) -> Iterator[Finding]:
    wanted = _wanted(environment.context)
    roles = sorted({grant.role for grant in environment.context.grants})
    yield from _missing_roles(environment, roles)
    for missing in chain(
        _database_and_schemas(environment, roles, wanted),
        _tables(environment, wanted),
        _columns(environment, wanted),
        _sequences(environment, wanted),
        _owners(environment),
    ):
        yield missing.finding(is_late=environment.state.streams)


def _wanted(context: Context) -> Wanted:
    """One entry for each declared role, table and privilege, as parallel arrays."""
    declared = sorted(
        {(g.role, *table, p.upper()) for g in context.grants for table in g.tables or context.table_names
         for p in g.privileges}
    )  # fmt: skip
    names = ("roles", "schemas", "names", "privileges")
    return {name: [entry[i] for entry in declared] for i, name in enumerate(names)}


@dataclass(frozen=True)
class _Missing:
    """A right that a role lacks, and the statement that gives it."""

    role: str
    about: object
    rights: str
    fix: str

    def finding(self, *, is_late: bool) -> Finding:
        found = blocker if is_late else warning
        return found(Side.SERVICE, self.about, f"role {self.role} lacks {self.rights}", self.fix)


def _missing_roles(environment: Environment, roles: Sequence[str]) -> Iterator[Finding]:
    here, there = (dict(environment.rows(side, _SQL["roles"], [roles])) for side in (Side.SERVICE, Side.SHARED))
    for role in roles:
        if role not in here:
            message = "does not exist here" + ("" if role in there else ", nor on the shared side: is the name right?")
            login = sql.SQL("LOGIN" if there.get(role, True) else "NOLOGIN")
            fix = statement("CREATE ROLE {} {}", role, login) + "\n-- and give it its password"
            yield blocker(Side.SERVICE, f"role {role}", message, fix)


def _database_and_schemas(environment: Environment, roles: Sequence[str], wanted: Wanted) -> Iterator[_Missing]:
    name = environment.database_name(Side.SERVICE)
    for (role,) in environment.rows(Side.SERVICE, _SQL["cannot_connect"], [roles]):
        yield _Missing(role, f"database {name}", "CONNECT", statement("GRANT CONNECT ON DATABASE {} TO {}", name, role))
    for role, schema in environment.rows(Side.SERVICE, _SQL["schemas_without_usage"], wanted):
        yield _Missing(role, f"schema {schema}", "USAGE", _usage(schema, role))


def _tables(environment: Environment, wanted: Wanted) -> Iterator[_Missing]:
    by_column = {row[:4] for row in environment.rows(Side.SHARED, _SQL["granted_by_column"], wanted)}
    for role, schema, name, privileges in environment.rows(Side.SERVICE, _SQL["missing_on_tables"], wanted):
        missing = [p for p in privileges if (role, schema, name, p) not in by_column]
        if missing:
            table = TableName(schema, name)
            fix = statement("GRANT {} ON {} TO {}", words(missing), table, role)
            yield _Missing(role, table, ", ".join(missing), fix)


def _columns(environment: Environment, wanted: Wanted) -> Iterator[_Missing]:
    """Privileges that the shared side grants on single columns only must be there on the same columns."""
    for role, schema, name, privilege, columns in environment.rows(Side.SHARED, _SQL["granted_by_column"], wanted):
        parameters = [role, privilege, schema, name, columns]
        [missing] = environment.row(Side.SERVICE, _SQL["missing_on_columns"], parameters)
        if missing:
            table = TableName(schema, name)
            listed = sql.SQL(", ").join(map(sql.Identifier, missing))
            fix = statement("GRANT {} ({}) ON {} TO {}", words([privilege]), listed, table, role)
            yield _Missing(role, table, f"{privilege} on {', '.join(missing)}", fix)


def _sequences(environment: Environment, wanted: Wanted) -> Iterator[_Missing]:
    for role, *sequence in environment.rows(Side.SERVICE, _SQL["sequences_without_usage"], wanted):
        name = TableName(*sequence)
        fix = statement("GRANT USAGE ON SEQUENCE {} TO {}", name, role)
        yield _Missing(role, name, "USAGE, which its inserts need", fix)


def _owners(environment: Environment) -> Iterator[_Missing]:
    for owner, schema in environment.rows(Side.SERVICE, _SQL["owners_without_usage"], [environment.oids(Side.SERVICE)]):
        rights = "USAGE, and foreign keys are checked as the tables' owner"
        yield _Missing(owner, f"schema {schema}", rights, _usage(schema, owner))


def _usage(schema: str, role: str) -> str:
    return statement("GRANT USAGE ON SCHEMA {} TO {}", schema, role)
