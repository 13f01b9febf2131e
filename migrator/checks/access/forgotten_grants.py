"""Nobody has rights on the moved tables that the context does not declare: they would lose them without a word."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning, words

_SQL = sqlfiles.load("migrator.checks.access", "forgotten_grants.sql")
_PUBLIC = "PUBLIC"


def check(environment: Environment) -> Iterator[Finding]:
    declared = {
        (grant.role, table, privilege.upper())
        for grant in environment.context.grants
        for table in grant.tables or environment.context.table_names
        for privilege in grant.privileges
    }
    rows = environment.rows(Side.SHARED, _SQL["granted"], {"tables": environment.oids(Side.SHARED)})
    for role, name, root, privileges in rows:
        table = TableName(*name)
        owners = {table, TableName(*root)}  # what is declared for a partitioned table holds for its partitions
        if undeclared := [p for p in privileges if not {(role, owner, p) for owner in owners} & declared]:
            message = f"role {role} has {', '.join(undeclared)}, which {environment.context_file} does not declare"
            grantee = sql.SQL(_PUBLIC) if role == _PUBLIC else sql.Identifier(role)
            revoke = statement("REVOKE {} ON {} FROM {}", words(undeclared), table, grantee)
            yield warning(Side.SHARED, table, message, f"-- declare it in [[grants]], or:\n{revoke}")
    yield from _owners(environment)


def _owners(environment: Environment) -> Iterator[Finding]:
    roles = [grant.role for grant in environment.context.grants]
    parameters = {"tables": environment.oids(Side.SHARED), "declared": roles}
    for owner, tables in environment.rows(Side.SHARED, _SQL["login_owners"], parameters):
        message = f"owns {', '.join(tables)}, may log in, and is not declared: is it an application's role?"
        yield warning(Side.SHARED, f"role {owner}", message, f"declare it in [[grants]] of {environment.context_file}")
