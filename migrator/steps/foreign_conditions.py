"""What foreign tables need before anything is changed: the extension, rights on both sides, free names, the columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Table, read_tables
from contexts.errors import RefusedError
from contexts.model import Side, TableName
from migrator.run import Run

_SQL = sqlfiles.load("migrator.steps", "foreign.sql")
#: A problem and what mends it.
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Names:
    """What is made beside the foreign tables."""

    server: str
    #: In both databases: what computes defaults there, and reads them here.
    helpers: str
    #: The closed tables, once they are moved aside.
    closed: str

    @classmethod
    def of(cls, run: Run) -> Names:
        """The names for a context."""
        return cls(f"carveout_{run.name}", f"carveout_foreign_{run.name}", f"carveout_closed_{run.name}")


def require(run: Run, tables: list[Table]) -> None:
    """Refuse with the first problem.

    :raises RefusedError: naming it and what mends it.
    """
    for problem, mend in _problems(run, tables):
        raise refused(run, problem, mend)


def refused(run: Run, problem: str, mend: str) -> RefusedError:
    """The error for a problem that was found before anything was changed."""
    return RefusedError(
        f"context {run.name!r}: no foreign tables: {problem}",
        unchanged="nothing was changed, the way back is still there",
        next_step=mend or f"carveout complete {run.name} without --foreign-tables",
    )


def installed(run: Run) -> bool:
    """Whether the shared database has the extension."""
    return bool(
        run.executor.read(Side.SHARED, sql.SQL("SELECT FROM pg_foreign_data_wrapper WHERE fdwname = 'postgres_fdw'"))
    )


def service_tables(run: Run) -> dict[TableName, Table]:
    """The context's tables as they are on the service side."""
    return read_tables(run.executor.connection(Side.SERVICE), run.context.table_names)


def _problems(run: Run, tables: list[Table]) -> Iterator[Problem]:
    names = Names.of(run)
    arguments = {
        "schemas": sorted({table.name.schema for table in tables}),
        "tables": [table.oid for table in tables],
        "server": names.server,
        "new_schemas": [names.helpers, names.closed],
    }
    row = run.executor.connection(Side.SHARED).execute(_SQL["facts"], arguments).fetchone()
    assert row is not None
    available, there, usable, superuser, may_create, schemas, foreign, server, leftover, mover, database = row
    yield from _wrapper(available, there, usable, superuser, mover)
    yield from _rights(run, may_create, schemas, foreign, mover, database)
    if server:
        drop = f"DROP SERVER {names.server} CASCADE"
        yield f"the foreign server {names.server} is there already", f"where it is left over: {drop}"
    for schema in leftover:
        yield f"the schema {schema} is there already", f"where it is left over: drop or rename {schema}"
    yield from _columns(run, tables)


def _wrapper(available: bool, there: bool, usable: bool, superuser: bool, mover: str) -> Iterator[Problem]:
    grant = f'GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO "{mover}"'
    if not available:
        yield "the shared server has no postgres_fdw", "install PostgreSQL's contrib modules on that server"
    elif not there and not superuser:
        yield (
            f"postgres_fdw is not installed in the shared database, and {mover} may not do so",
            f"as a superuser: CREATE EXTENSION postgres_fdw; {grant}",
        )
    elif there and not usable:
        yield f"{mover} may not use postgres_fdw", f"as a superuser: {grant}"


def _rights(
    run: Run, may_create: bool, schemas: list[str], tables: list[str], mover: str, database: str
) -> Iterator[Problem]:
    if not may_create:
        yield f"{mover} may make no schema in {database}", f'GRANT CREATE ON DATABASE "{database}" TO "{mover}"'
    for schema in schemas:
        yield f"{mover} may make nothing in schema {schema}", f'GRANT CREATE ON SCHEMA "{schema}" TO "{mover}"'
    for table in tables:
        yield f"{table} does not belong to {mover}", f'GRANT the owner of {table} TO "{mover}"'
    ((allowed, there, role),) = run.executor.read(Side.SERVICE, _SQL["service_facts"])
    if not allowed:
        grant = f'there: GRANT CREATE ON DATABASE "{there}" TO "{role}"'
        yield f"{role} may make no schema in {there} of the service server", grant


def _columns(run: Run, tables: list[Table]) -> Iterator[Problem]:
    there = service_tables(run)
    for table in tables:
        if table.name not in run.context.table_names:
            continue
        if table.name not in there:
            yield f"{table.name} is not in the service database", f"carveout schema check {run.name}"
            continue
        known = {column.name for column in there[table.name].columns}
        for column in table.columns:
            if column.name not in known:
                yield f"{table.name}.{column.name} is not in the service database", f"carveout schema check {run.name}"
