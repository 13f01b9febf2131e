"""An outbox table has the columns that make its rows events, of types that become a message, and there is a sink."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.outbox.sinks import SinkUnreachable, open_sink
from contexts.catalog import Column, Table
from contexts.errors import ConfigError
from contexts.model import Side
from contexts.outbox import Outbox
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_PAYLOADS = ("text", "character varying", "json", "jsonb", "bytea")
_TIMES = ("timestamp", "timestamp without time zone", "timestamp with time zone")


def check(environment: Environment) -> Iterator[Finding]:
    tables = environment.tables(Side.SHARED)
    for outbox in environment.context.outbox:
        if (table := tables.get(outbox.table)) is not None:  # a missing one is the business of the check `tables`
            yield from _of_table(outbox, table, environment.context_file)
    if environment.context.outbox:
        try:
            open_sink(environment.context).close()
        except (ConfigError, SinkUnreachable) as error:
            fix = error.next_step or f"look at [outbox_sink] in {environment.context_file}"
            yield blocker(None, "outbox_sink", error.message, fix)


def _of_table(outbox: Outbox, table: Table, file: str) -> Iterator[Finding]:
    columns = {column.name: column for column in table.columns}
    if missing := [name for name in outbox.columns if name not in columns]:
        message = f"is declared an outbox and has no column {', '.join(missing)}"
        yield blocker(Side.SHARED, table.name, message, f"in {file}: name its columns under [[outbox]]")
        return
    for name in (outbox.id, outbox.aggregate_type):
        if not columns[name].not_null:
            fix = statement("ALTER TABLE {} ALTER {} SET NOT NULL", table.name, name)
            yield blocker(Side.SHARED, table.name, f"a row without {name} is no event, and stops the stream", fix)
    yield from _types(outbox, table, columns, file)
    if outbox.id not in table.primary_key:
        message = f"{outbox.id} is not in the primary key: two events of one id are one for every consumer"
        yield warning(Side.SHARED, table.name, message, f"make sure that {outbox.id} is unique")


def _types(outbox: Outbox, table: Table, columns: dict[str, Column], file: str) -> Iterator[Finding]:
    if (found := columns[outbox.payload].base_type_sql).partition("(")[0] not in _PAYLOADS:
        message = f"{outbox.payload} is {found}; a payload is {', '.join(_PAYLOADS)}"
        yield blocker(Side.SHARED, table.name, message, f"in {file}: name another column as payload under [[outbox]]")
    if outbox.timestamp and not (found := columns[outbox.timestamp].base_type_sql).startswith(_TIMES):
        message = f"{outbox.timestamp} is {found}, which is no time of an event"
        yield blocker(Side.SHARED, table.name, message, f"in {file}: name a timestamp, or none, under [[outbox]]")
