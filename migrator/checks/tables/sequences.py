"""Sequences belong to one side each, can be read, do not start over, and have numbers left for the switch's margin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "sequences.sql")
#: Below this share of all its numbers left, a sequence is reported.
LOW = 0.2


@dataclass(frozen=True)
class _Sequence:
    """A sequence that a moved table owns or takes its defaults from."""

    name: TableName
    owner_table: TableName | None
    table: TableName
    column: str
    column_is_bigint: bool
    cycles: bool
    is_readable: bool
    total: int
    left: int
    staying_users: Sequence[str]


def check(environment: Environment) -> Iterator[Finding]:
    for row in environment.rows(Side.SHARED, _SQL["sequences"], {"tables": environment.oids(Side.SHARED)}):
        owner = TableName(*row[1]) if row[1] else None
        yield from _findings(environment, _Sequence(TableName(*row[0]), owner, TableName(*row[2]), *row[3:]))


def _findings(environment: Environment, sequence: _Sequence) -> Iterator[Finding]:
    if sequence.staying_users:
        message = (
            f"numbers {sequence.table}.{sequence.column}, and also {', '.join(sequence.staying_users)}, which stays:"
        )
        message += " after the switch both sides would hand out the same numbers"
        yield blocker(Side.SHARED, sequence.name, message, _own_sequence(sequence))
    elif sequence.owner_table is None:
        message = f"numbers {sequence.table}.{sequence.column}, and no column owns it"
        fix = statement("ALTER SEQUENCE {} OWNED BY {}.{}", sequence.name, sequence.table, sequence.column)
        yield warning(Side.SHARED, sequence.name, message, fix)
    if sequence.cycles:
        message = "starts over at its end: numbers come twice"
        yield warning(Side.SHARED, sequence.name, message, statement("ALTER SEQUENCE {} NO CYCLE", sequence.name))
    yield from _room(environment, sequence)


def _room(environment: Environment, sequence: _Sequence) -> Iterator[Finding]:
    margin = environment.context.options.sequence_margin
    if not sequence.is_readable:
        fix = statement("GRANT SELECT ON SEQUENCE {} TO {}", sequence.name, environment.mover(Side.SHARED))
        yield blocker(Side.SHARED, sequence.name, "its last value cannot be read", fix)
    elif sequence.left <= margin:
        message = f"has {sequence.left} numbers left, fewer than the margin of {margin} that a switch adds"
        yield blocker(Side.SHARED, sequence.name, message, _wider(sequence))
    elif sequence.left < sequence.total * LOW:
        message = f"has {sequence.left} of {sequence.total} numbers left"
        yield warning(Side.SHARED, sequence.name, message, _wider(sequence))


def _wider(sequence: _Sequence) -> str:
    steps = []
    if not sequence.column_is_bigint:
        template = "ALTER TABLE {} ALTER COLUMN {} TYPE bigint"
        steps.append(statement(template, sequence.table, sequence.column) + " -- rewrites the table")
    steps.append(statement("ALTER SEQUENCE {} AS bigint NO MAXVALUE NO MINVALUE", sequence.name))
    return "\n".join(steps)


def _own_sequence(sequence: _Sequence) -> str:
    """A sequence of the moved column's own, from the same number on; what stays keeps the old one."""
    own = TableName(sequence.table.schema, f"{sequence.table.name}_{sequence.column}_own_seq"[-63:])
    literal = sql.Literal(sql.Identifier(*own).as_string())
    default = "ALTER TABLE {} ALTER COLUMN {} SET DEFAULT pg_catalog.nextval({})"
    steps = [
        statement("CREATE SEQUENCE {} OWNED BY {}.{}", own, sequence.table, sequence.column),
        statement("SELECT pg_catalog.setval({}, last_value, is_called) FROM {}", literal, sequence.name),
        statement(default, sequence.table, sequence.column, literal),
    ]
    if sequence.owner_table == sequence.table:
        steps.append(statement("ALTER SEQUENCE {} OWNED BY NONE", sequence.name))
    return "\n".join(steps)
