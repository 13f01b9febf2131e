"""Every foreign key that the boundary cuts is declared, in either direction; a cascade across it would end there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from contexts import sqlfiles
from contexts.model import Context, Reference, Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "foreign_keys.sql")


@dataclass(frozen=True)
class _Cut:
    name: str
    table: TableName
    columns: tuple[str, ...]
    references: TableName
    referenced_columns: tuple[str, ...]
    outgoing: bool
    cascades: bool

    def is_declared(self, context: Context) -> bool:
        return any(self._is(reference) for reference in context.references)

    def _is(self, reference: Reference) -> bool:
        declared = set(zip(reference.columns, reference.referenced_columns, strict=False))
        return (reference.table, reference.references, declared) == (
            self.table, self.references, set(zip(self.columns, self.referenced_columns, strict=True)),
        )  # fmt: skip


def check(environment: Environment) -> Iterator[Finding]:
    for row in environment.rows(Side.SHARED, _SQL["cut"], {"tables": environment.oids(Side.SHARED)}):
        name, table, columns, references, referenced, outgoing, cascades = row
        cut = _Cut(
            name, TableName(*table), tuple(columns), TableName(*references), tuple(referenced), outgoing, cascades
        )
        if not cut.is_declared(environment.context):
            yield _undeclared(environment, cut)
        elif cut.cascades:
            message = (
                f"foreign key {cut.name} changes {cut.table} with {cut.references}: across two databases it cannot"
            )
            yield warning(Side.SHARED, cut.table, message, "let the application do it, before the cutover")


def _undeclared(environment: Environment, cut: _Cut) -> Finding:
    stays = "refers to" if cut.outgoing else "stays, and refers to"
    end = "which stays" if cut.outgoing else "which moves"
    message = f"foreign key {cut.name}: {cut.table} ({', '.join(cut.columns)}) {stays} {cut.references}, {end}"
    drop = statement("ALTER TABLE {} DROP CONSTRAINT {}", cut.table, cut.name)
    declare = "\n".join(f"-- {line}" for line in _declaration(cut))
    fix = f"-- declare it in {environment.context_file}:\n{declare}\n-- or drop it:\n{drop}"
    return blocker(Side.SHARED, cut.table, message, fix)


def _declaration(cut: _Cut) -> Iterator[str]:
    # A JSON string or array of strings is a TOML one as well.
    yield "[[references]]"
    yield f"table = {json.dumps(str(cut.table), ensure_ascii=False)}"
    yield f"columns = {json.dumps(cut.columns, ensure_ascii=False)}"
    yield f"references = {json.dumps(str(cut.references), ensure_ascii=False)}"
    yield f"referenced_columns = {json.dumps(cut.referenced_columns, ensure_ascii=False)}"
