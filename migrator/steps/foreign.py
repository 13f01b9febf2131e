"""Foreign tables in place of the closed tables, so that writers left behind go on through the old names.

They lead to the service database through ``postgres_fdw``. What that cannot do is told in
``docs/howto/foreign-tables.md``: a transaction that also writes tables of the shared database can be half committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import conninfo, sql

from contexts import sqlfiles
from contexts.catalog import Column, Generated, Identity, Table
from contexts.killpoints import kill_point
from contexts.loader import expand
from contexts.model import Side, TableName
from migrator.executor import Statement
from migrator.run import Run
from migrator.steps import foreign_conditions as conditions
from migrator.steps.foreign_conditions import Names

_SQL = sqlfiles.load("migrator.steps", "foreign.sql")
#: What of the service URL means the same on the shared server; keys and passwords do not.
_SERVER_OPTIONS = ("host", "hostaddr", "port", "dbname", "sslmode", "sslrootcert", "sslcrl", "ssl_min_protocol_version",
                   "channel_binding", "gssencmode", "connect_timeout", "target_session_attrs")  # fmt: skip
_PASSWORD = "CARVEOUT_FOREIGN_PASSWORD_"


@dataclass(frozen=True, slots=True)
class Default:
    """A default that only the service database can compute, as the next value of a sequence."""

    table: TableName
    column: Column
    expression: str
    #: Of the function and the view there, and of the foreign table here.
    name: sql.Identifier
    label: str


def require(run: Run, tables: list[Table]) -> None:
    """Refuse where the foreign tables could not be made; try the logins that passwords were given for.

    :raises RefusedError: naming what is missing and the statement that mends it; nothing was changed.
    """
    if not tables:
        return
    conditions.require(run, tables)
    if run.executor.dry:
        return
    try:
        with run.executor.connection(Side.SHARED).transaction(force_rollback=True):
            _server(run)
            for role, member in _roles(run, Side.SHARED).items():
                _mapping(run, role)
                if member and _has_password(role):
                    _try(run, role)
    except psycopg.errors.InsufficientPrivilege as error:
        raise conditions.refused(run, error.diag.message_primary or "a right is missing", "") from error


def replace(run: Run, tables: list[Table], put_away: Callable[[], None]) -> None:
    """Make the foreign tables; call it in a transaction on the shared side, in which ``put_away`` frees the names."""
    moving = [table for table in tables if table.name in run.context.table_names]
    if not moving:
        return
    defaults = _defaults(run, moving)
    _service_part(run, defaults)
    _server(run)
    for role in _roles(run, Side.SHARED):
        _mapping(run, role)
    put_away()
    for table in moving:
        _foreign_table(run, table)
    _fill_defaults(run, defaults)
    _grant(run)
    kill_point("foreign.made")


def move_aside(run: Run, tables: Iterable[Table]) -> None:
    """Move the closed tables, partitions and owned sequences with them, where no application may look."""
    closed = sql.Identifier(Names.of(run).closed)
    run.executor.write(Side.SHARED, sql.SQL("CREATE SCHEMA {}").format(closed))
    for table in tables:
        run.executor.write(Side.SHARED, sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table.identifier(), closed))


def _server(run: Run) -> None:
    """The extension where it is missing, the server, and the schema for what belongs to the foreign tables."""
    names = Names.of(run)
    server = sql.Identifier(names.server)
    given = conninfo.conninfo_to_dict(run.databases.service.url)
    info = run.executor.connection(Side.SERVICE).info
    given = {"host": info.host, "port": info.port, "dbname": info.dbname, **given}
    options = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(key), _literal(given[key])) for key in _SERVER_OPTIONS if given.get(key)
    )
    statements: list[Statement] = [
        sql.SQL("CREATE EXTENSION postgres_fdw"),
        sql.SQL("CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})").format(server, options),
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(names.helpers)),
    ]
    _write(run, Side.SHARED, statements[1:] if conditions.installed(run) else statements)


def _mapping(run: Run, role: str) -> None:
    """The role's login on the service side: the same name, with the password that the environment gives."""
    options = sql.SQL("user {}").format(_literal(role))
    if _has_password(role):
        variable = _variable(role)
        password = "(not shown)" if run.executor.dry else expand(f"${{{variable}}}", where="--foreign-tables")
        options += sql.SQL(", password {}").format(_literal(password))
    statement = sql.SQL("CREATE USER MAPPING FOR {} SERVER {} OPTIONS ({})")
    _write(run, Side.SHARED, [statement.format(sql.Identifier(role), sql.Identifier(Names.of(run).server), options)])


def _try(run: Run, role: str) -> None:
    """Log in as the role through a foreign table without columns; the transaction is rolled back."""
    readable = [t for grant in run.context.grants if grant.role == role and "select" in grant.privileges
                for t in grant.tables or run.context.table_names]  # fmt: skip
    if not readable:
        return
    probe, conn = sql.Identifier(Names.of(run).helpers, "probe"), run.executor.connection(Side.SHARED)
    try:
        with conn.transaction(force_rollback=True):
            _write(run, Side.SHARED, [_foreign(run, probe, sql.SQL(""), *readable[0]), *_usage(run, [role], [probe])])
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(probe))
    except psycopg.Error as error:
        reason = " ".join((error.diag.message_primary or type(error).__name__).split())
        raise conditions.refused(
            run,
            f"{role} cannot reach {readable[0]} of the service database from the shared server: {reason}",
            f"look at {_variable(role)}, the service server's pg_hba.conf, and the service URL as seen from there",
        ) from error


def _defaults(run: Run, tables: list[Table]) -> list[Default]:
    helpers = Names.of(run).helpers
    found: list[Default] = []
    for table in tables:
        for column, expression, remote in _service_defaults(run, table.name):
            if remote:
                label = f"default_{len(found) + 1}"
                name = sql.Identifier(helpers, label)
                found.append(Default(table.name, table.column(column), expression, name, label))
    return found


def _service_defaults(run: Run, name: TableName) -> list[tuple[str, str, bool]]:
    """Column, expression, and whether only the service database can compute it."""
    rows = run.executor.read(Side.SERVICE, _SQL["defaults"], (conditions.service_tables(run)[name].oid,))
    return [(str(column), str(expression), bool(remote)) for column, expression, remote in rows]


def _service_part(run: Run, defaults: list[Default]) -> None:
    """A function per default, which runs with the mover's rights, and a view of it; made anew where it is there."""
    schema = sql.Identifier(Names.of(run).helpers)
    made: list[Statement] = [
        sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema),
        sql.SQL("CREATE SCHEMA {}").format(schema),
    ]
    for one in defaults:
        made += [
            _SQL["default_function"].format(
                name=one.name, type=_raw(one.column.type_sql), expression=_raw(one.expression)
            ),
            sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(one.name),
            sql.SQL("CREATE VIEW {0} AS SELECT {0}() AS value").format(one.name),
        ]
    roles, views = list(_roles(run, Side.SERVICE)), [one.name for one in defaults]
    if roles and defaults:
        made += _usage(run, roles, views)
        made += [sql.SQL("GRANT EXECUTE ON FUNCTION {}() TO {}").format(view, _names(roles)) for view in views]
    with run.executor.transaction(Side.SERVICE):
        _write(run, Side.SERVICE, made if defaults else made[:1])


def _foreign_table(run: Run, table: Table) -> None:
    service = conditions.service_tables(run)[table.name]
    local = {column: expression for column, expression, remote in _service_defaults(run, table.name) if not remote}
    columns = [_column(column, service.column(column.name), local.get(column.name)) for column in table.columns]
    _write(run, Side.SHARED, [_foreign(run, table.identifier(), sql.SQL(", ").join(columns), *table.name)])


def _column(column: Column, service: Column, default: str | None) -> Statement:
    parts: list[Statement] = [sql.SQL("{} {}").format(sql.Identifier(column.name), _raw(column.type_sql))]
    if column.collation not in ("", "pg_catalog.default"):
        parts.append(sql.SQL("COLLATE {}").format(sql.Identifier(*column.collation.split(".", 1))))
    if service.identity is Identity.ALWAYS or service.generated is not Generated.NO:
        # For a generated column postgres_fdw sends DEFAULT, and the service database computes the value.
        parts.append(_raw(f"GENERATED ALWAYS AS (NULL::{column.type_sql}) STORED"))
    elif default is not None:
        parts.append(_raw(f"DEFAULT {default}"))
    return sql.SQL(" ").join(parts)


def _fill_defaults(run: Run, defaults: list[Default]) -> None:
    """A foreign table per default, and a trigger per table that reads from them what a writer leaves out."""
    helpers = Names.of(run).helpers
    for one in defaults:
        columns = _raw(f"value {one.column.type_sql}")
        _write(run, Side.SHARED, [_foreign(run, one.name, columns, helpers, one.label)])
    for number, table in enumerate(dict.fromkeys(one.table for one in defaults), 1):
        function = sql.Identifier(helpers, f"fill_{number}")
        lines = [
            _SQL["fill_column"].format(column=sql.Identifier(one.column.name), source=one.name).as_string()
            for one in defaults if one.table == table
        ]  # fmt: skip
        body = _literal("\n".join(["BEGIN", *lines, "RETURN NEW;", "END"]))
        _write(run, Side.SHARED, [
            _SQL["fill_function"].format(name=function, body=body),
            _SQL["fill_trigger"].format(table=sql.Identifier(*table), function=function),
        ])  # fmt: skip
    if roles := list(_roles(run, Side.SHARED)):
        _write(run, Side.SHARED, _usage(run, roles, [one.name for one in defaults]))


def _grant(run: Run) -> None:
    there = _roles(run, Side.SHARED)
    for grant in run.context.grants:
        if grant.role in there:
            tables = sql.SQL(", ").join(sql.Identifier(*name) for name in grant.tables or run.context.table_names)
            rights = sql.SQL(", ".join(privilege.upper() for privilege in grant.privileges))
            _write(run, Side.SHARED, [sql.SQL("GRANT {} ON {} TO {}").format(rights, tables, _names([grant.role]))])


def _usage(run: Run, roles: list[str], tables: list[sql.Identifier]) -> Iterator[Statement]:
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(Names.of(run).helpers), _names(roles))
    for table in tables:
        yield sql.SQL("GRANT SELECT ON {} TO {}").format(table, _names(roles))


def _foreign(run: Run, table: sql.Identifier, columns: Statement, schema: str, name: str) -> Statement:
    server = sql.Identifier(Names.of(run).server)
    return _SQL["foreign_table"].format(
        table=table, columns=columns, server=server, schema=_literal(schema), name=_literal(name)
    )


def _roles(run: Run, side: Side) -> dict[str, bool]:
    """The declared roles that exist on a side, and whether the mover may act as each."""
    declared = [grant.role for grant in run.context.grants]
    return dict(run.executor.read(side, _SQL["roles"], (declared,)))


def _variable(role: str) -> str:
    return _PASSWORD + re.sub(r"\W", "_", role).upper()


def _has_password(role: str) -> bool:
    variable = _variable(role)
    return variable in os.environ or f"{variable}_FILE" in os.environ


def _names(roles: list[str]) -> Statement:
    return sql.SQL(", ").join(sql.Identifier(role) for role in roles)


def _raw(text: str) -> sql.SQL:
    """Text of a catalog as SQL; the executor reads ``%`` as the begin of a parameter."""
    return sql.SQL(text.replace("%", "%%"))


def _literal(value: object) -> sql.Literal:
    return sql.Literal(str(value).replace("%", "%%"))


def _write(run: Run, side: Side, statements: Iterable[Statement]) -> None:
    for statement in statements:
        run.executor.write(side, statement)
