"""Whether both sides declare the same tables: what is compared is the text of PostgreSQL's own definitions.

Constraints and indexes may have other names. Foreign keys to tables that do not move are left out: the boundary
cuts them. Write locks (triggers named ``carveout_*``) are ours and no part of the schema.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import TableName
from validations.parity.finding import Finding

_SQL = sqlfiles.load("validations.parity", "parity.sql")
_NAMED = frozenset({"table", "column", "column order", "trigger", "policy"})


@dataclass(frozen=True, slots=True)
class _Part:
    """One definition; constraints and indexes are told apart by their text alone."""

    table: TableName
    kind: str
    name: str
    definition: str

    @property
    def identity(self) -> tuple[TableName, str, str]:
        return self.table, self.kind, self.name if self.kind in _NAMED else self.definition

    @property
    def shown(self) -> str:
        return f"{self.table}.{self.name}" if self.name else str(self.table)


def schema(reference: Connection, other: Connection, names: Iterable[TableName]) -> list[Finding]:
    """How ``other`` differs from ``reference`` in the tables; the fixes are for ``other``."""
    wanted = list(names)
    ours, theirs = _parts(reference, wanted), _parts(other, wanted)
    present = {part.table for part in theirs}
    missing = {part.table for part in ours} - present
    findings = [Finding("table", str(t), "the table is missing", _revision("creates it")) for t in sorted(missing)]
    lacking = {name for name in wanted if name not in {part.table for part in ours}}
    findings += [
        Finding("table", str(t), "the table is missing on the reference side", f"leave {t} out of the context")
        for t in sorted(lacking)
    ]
    ours, theirs = ([p for p in side if p.table not in missing | lacking] for side in (ours, theirs))
    return findings + _compared(ours, theirs)


def database(reference: Connection, other: Connection) -> list[Finding]:
    """Where encoding or locale differ, so that text sorts or compares differently."""
    labels = ("encoding", "LC_COLLATE", "LC_CTYPE", "locale provider")
    ours, theirs = (conn.execute(_SQL["database"]).fetchall()[0] for conn in (reference, other))
    return [
        Finding("database", other.info.dbname, f"{label} is {its!r} instead of {wanted!r}", "create the database anew")
        for label, wanted, its in zip(labels, ours, theirs, strict=True)
        if wanted != its
    ]


def _parts(conn: Connection, names: list[TableName]) -> list[_Part]:
    arguments = {"schemas": [n.schema for n in names], "names": [n.name for n in names]}
    rows = conn.execute(_SQL["schema"], arguments).fetchall()
    return [_Part(TableName(schema, table), *rest) for schema, table, *rest in rows]


def _compared(ours: list[_Part], theirs: list[_Part]) -> list[Finding]:
    wanted, there = Counter(p.identity for p in ours), Counter(p.identity for p in theirs)
    other_definitions = {p.identity: p.definition for p in theirs}
    findings: list[Finding] = []
    for part in ours:
        definition = other_definitions.get(part.identity)
        if there[part.identity] < wanted[part.identity]:
            findings.append(Finding(part.kind, part.shown, f"missing: {part.definition}", _fix(part)))
            there[part.identity] += 1
        elif definition != part.definition:
            detail = f"{definition} instead of {part.definition}"
            findings.append(Finding(part.kind, part.shown, detail, _revision("changes it")))
    for part in theirs:
        if there[part.identity] > wanted[part.identity]:
            there[part.identity] -= 1
            detail = f"not on the reference side: {part.definition}"
            findings.append(Finding(part.kind, part.shown, detail, _revision("drops it, or add it there")))
    return findings


def _fix(part: _Part) -> str:
    table = sql.Identifier(*part.table).as_string()
    match part.kind:
        case "constraint":
            return f"ALTER TABLE {table} ADD CONSTRAINT {sql.Identifier(part.name).as_string()} {part.definition}"
        case "index":
            name = sql.Identifier(part.name).as_string()
            return part.definition.removesuffix(" INVALID").replace(" INDEX ON ", f" INDEX {name} ON ", 1)
        case "column":
            return f"ALTER TABLE {table} ADD COLUMN {part.definition}"
        case _:
            return _revision("adds it")


def _revision(what: str) -> str:
    return f"write a revision that {what}"
