"""Text sorts and compares alike on both sides: same default collation and version, named collations there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.server", "collations.sql")
_DEFAULT = "pg_catalog.default"


class _Default(NamedTuple):
    provider: str
    locale: str
    character_type: str
    version: str | None
    recorded: str | None


def check(environment: Environment) -> Iterator[Finding]:
    shared, service = _default(environment, Side.SHARED), _default(environment, Side.SERVICE)
    yield from _stale(environment, shared)
    columns = [
        c for table in environment.tables(Side.SHARED).values() for c in table.columns if c.collation == _DEFAULT
    ]
    if columns and shared[:4] != service[:4]:
        yield _differing(environment, shared, service, len(columns))
    yield from _named(environment)


def _default(environment: Environment, side: Side) -> _Default:
    recorded = "default_15" if environment.major(side) >= 15 else "default_14"
    return _Default(*environment.row(side, _SQL[recorded]))


def _stale(environment: Environment, shared: _Default) -> Iterator[Finding]:
    if shared.recorded != shared.version:
        name = environment.database_name(Side.SHARED)
        message = f"its text indexes were built under version {shared.recorded} of the collation, the server has "
        message += f"{shared.version}: they may be corrupt"
        fix = statement("REINDEX DATABASE {}", name) + "\n"
        yield warning(Side.SHARED, name, message, fix + statement("ALTER DATABASE {} REFRESH COLLATION VERSION", name))


def _differing(environment: Environment, shared: _Default, service: _Default, columns: int) -> Finding:
    [indexes] = environment.row(Side.SHARED, _SQL["text_keys"], [environment.oids(Side.SHARED)])
    message = f"the default collation is {_shown(service)} here and {_shown(shared)} on the shared side: {columns}"
    message += f" text columns and {indexes} unique indexes over text sort differently; equal values stay equal"
    create = statement(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE {} LC_CTYPE {}",
        environment.database_name(Side.SERVICE), sql.Literal(shared.locale), sql.Literal(shared.character_type),
    )  # fmt: skip
    if shared.provider != "c":
        create = f"create the service database with {_shown(shared)}"
    return warning(
        Side.SERVICE, "collation", message, f"-- in place of the present database, if order matters:\n{create}"
    )


def _shown(default: _Default) -> str:
    provider = {"c": "libc", "i": "ICU", "b": "builtin"}.get(default.provider, default.provider)
    return f"{default.locale} ({provider}{' ' + default.version if default.version else ''})"


def _named(environment: Environment) -> Iterator[Finding]:
    used: dict[str, list[str]] = {}
    for table in environment.tables(Side.SHARED).values():
        for column in table.columns:
            if column.collation not in ("", _DEFAULT):
                used.setdefault(column.collation, []).append(f"{table.name}.{column.name}")
    shared, service = (_collations(environment, side, list(used)) for side in Side)
    for name, columns in used.items():
        if name not in service:
            message = f"does not exist here; {', '.join(columns)} use it"
            yield blocker(Side.SERVICE, name, message, _create(*shared[name][:5]))
        elif not shared[name][4] and shared[name][5] != service[name][5]:
            message = f"has version {service[name][5]} here and {shared[name][5]} on the shared side, and is not "
            message += f"deterministic: what is unique there may not be here ({', '.join(columns)})"
            yield warning(Side.SERVICE, name, message, "use the same ICU version on both servers")


def _collations(environment: Environment, side: Side, names: list[str]) -> dict[str, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in environment.rows(side, _SQL["collations"], [names])}


def _create(schema: str, name: str, provider: str, locale: str, deterministic: bool) -> str:
    if schema == "pg_catalog":
        return "SELECT pg_catalog.pg_import_system_collations('pg_catalog');\n-- finds what the server's system offers"
    return statement(
        "CREATE COLLATION {} (provider = {}, locale = {}, deterministic = {})",
        TableName(schema, name), sql.SQL("icu" if provider == "i" else "libc"), sql.Literal(locale),
        sql.Literal(deterministic),
    )  # fmt: skip
