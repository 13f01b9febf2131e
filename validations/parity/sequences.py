"""Sequences behind the tables' columns: owned, identity, or only named by a default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import TableName
from validations.parity.finding import Finding

_SQL = sqlfiles.load("validations.parity", "parity.sql")
Place = tuple[TableName, str]


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence and where it stands, as the sequence itself says."""

    name: TableName
    type_sql: str
    start: int
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    #: An identity column's sequence needs no grant of its own.
    identity: bool
    last_value: int
    is_called: bool

    @property
    def next_value(self) -> int:
        """What the next call hands out, the limits aside."""
        return self.last_value + self.increment if self.is_called else self.last_value

    @property
    def shape(self) -> tuple[object, ...]:
        """What does not change by use; the start value matters to RESTART only."""
        return (self.type_sql, self.increment, self.minimum, self.maximum, self.cycle)


def read_sequences(conn: Connection, names: Iterable[TableName]) -> dict[Place, Sequence]:
    """The sequences of the tables, by table and column."""
    wanted = list(names)
    arguments = {"schemas": [n.schema for n in wanted], "names": [n.name for n in wanted]}
    found: dict[Place, Sequence] = {}
    for schema, table, column, *name, type_sql, start, step, least, most, cycle, identity in conn.execute(
        _SQL["sequences"], arguments
    ).fetchall():
        sequence = TableName(*name)
        state = conn.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*sequence)))
        last, called = state.fetchall()[0]
        found[TableName(schema, table), column] = Sequence(
            sequence, type_sql, start, step, least, most, cycle, identity, last, called
        )
    return found


def sequences(open_conn: Connection, closed_conn: Connection, names: Iterable[TableName]) -> list[Finding]:
    """Where the closed side would hand out values that the open side has handed out already, or other ones."""
    wanted = list(names)
    ours, theirs = read_sequences(open_conn, wanted), read_sequences(closed_conn, wanted)
    findings = [
        Finding("sequence", f"{table}.{column}", "the closed side has no sequence here", _create(sequence))
        for (table, column), sequence in ours.items()
        if (table, column) not in theirs
    ]
    for (table, column), sequence in ours.items():
        if other := theirs.get((table, column)):
            findings += _compared(f"{table}.{column}", sequence, other)
    return findings


def set_value(sequence: TableName, value: int, *, is_called: bool) -> sql.Composed:
    """The statement that sets a sequence."""
    return sql.SQL("SELECT pg_catalog.setval({}::pg_catalog.regclass, {}, {})").format(
        sql.Literal(_quoted(sequence)), sql.Literal(value), sql.Literal(is_called)
    )


def _compared(place: str, ours: Sequence, theirs: Sequence) -> list[Finding]:
    findings: list[Finding] = []
    if ours.shape != theirs.shape:
        detail = f"{theirs.name} is {_shape(theirs)} on the closed side and {_shape(ours)} on the open side"
        findings.append(Finding("sequence", place, detail, f"ALTER SEQUENCE {_quoted(theirs.name)} {_shape(ours)}"))
    behind = theirs.next_value < ours.next_value if ours.increment > 0 else theirs.next_value > ours.next_value
    if behind:
        detail = f"{theirs.name} goes on at {theirs.next_value} on the closed side, at {ours.next_value} on the open"
        fix = set_value(theirs.name, ours.last_value, is_called=ours.is_called).as_string()
        findings.append(Finding("sequence", place, detail, fix))
    return findings


def _shape(sequence: Sequence) -> str:
    return (
        f"AS {sequence.type_sql} INCREMENT BY {sequence.increment} MINVALUE {sequence.minimum}"
        f" MAXVALUE {sequence.maximum}{'' if sequence.cycle else ' NO'} CYCLE"
    )


def _create(sequence: Sequence) -> str:
    return f"CREATE SEQUENCE {_quoted(sequence.name)} {_shape(sequence)} START WITH {sequence.start}"


def _quoted(name: TableName) -> str:
    return sql.Identifier(*name).as_string()
