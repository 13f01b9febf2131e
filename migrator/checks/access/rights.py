"""Our role owns the tables (or is a member of their owners), reads and writes them, and may create what it needs."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, words

_SQL = sqlfiles.load("migrator.checks.access", "rights.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        mover = environment.mover(side)
        name = environment.database_name(side)
        if not environment.row(side, _SQL["create_in_database"])[0]:
            message = f"role {mover} may not create the schema carveout and publications"
            fix = statement("GRANT CREATE ON DATABASE {} TO {}", name, mover)
            yield blocker(side, f"database {name}", message, fix)
        yield from _schemas(environment, side, mover)
        yield from _owners(environment, side, mover)
        yield from _privileges(environment, side, mover)


def _schemas(environment: Environment, side: Side, mover: str) -> Iterator[Finding]:
    schemas = sorted({name.schema for name in environment.context.table_names})
    needed = ["USAGE"] if side is Side.SHARED else ["USAGE", "CREATE"]
    for schema, missing in environment.rows(side, _SQL["schemas"], {"schemas": schemas, "needed": needed}):
        message = f"role {mover} lacks {', '.join(missing)}"
        fix = statement("GRANT {} ON SCHEMA {} TO {}", words(missing), schema, mover)
        yield blocker(side, f"schema {schema}", message, fix)


def _owners(environment: Environment, side: Side, mover: str) -> Iterator[Finding]:
    oids = environment.oids(side)
    for owner, is_superuser, schemas, names in environment.rows(side, _SQL["foreign_owners"], [oids]):
        tables = [TableName(*pair) for pair in zip(schemas, names, strict=True)]
        message = f"owns {', '.join(map(str, tables))}; role {mover} is no member of it, and publications and "
        message += "write locks need an owner's rights"
        grant = "GRANT {} TO {} WITH INHERIT TRUE" if environment.major(side) >= 16 else "GRANT {} TO {}"
        fix = statement(grant, owner, mover)
        if is_superuser:  # membership in a superuser is more than anybody should grant
            fix = "\n".join(statement("ALTER TABLE {} OWNER TO {}", table, mover) for table in tables)
        yield blocker(side, f"role {owner}", message, fix)


def _privileges(environment: Environment, side: Side, mover: str) -> Iterator[Finding]:
    """One finding for all that lack the same, so a first run on a hundred tables stays readable."""
    parameters = {"tables": environment.oids(side)}
    for kind, missing, schemas, names in environment.rows(side, _SQL["missing_privileges"], parameters):
        objects = [TableName(*pair) for pair in zip(schemas, names, strict=True)]
        listed = sql.SQL(", ").join(sql.Identifier(*name) for name in objects)
        fix = statement("GRANT {} ON {} {} TO {}", words(missing), sql.SQL(kind), listed, mover)
        about = ", ".join(map(str, objects))
        yield blocker(side, about, f"role {mover} lacks {', '.join(missing)}", fix)
