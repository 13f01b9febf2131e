"""No column on either side of the boundary has the row type of a table on the other; user types can be made there."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, info

_SQL = sqlfiles.load("migrator.checks.tables", "types.sql")


def check(environment: Environment) -> Iterator[Finding]:
    tables = {"tables": environment.oids(Side.SHARED)}
    for relation, column, row_type, moves in environment.rows(Side.SHARED, _SQL["row_types"], tables):
        where = "moves, and the table stays" if moves else "stays, and the table moves"
        message = f"its column {column} has the row type of {TableName(*row_type)}: the column {where}"
        fix = "give the column a composite type of its own (CREATE TYPE ... AS) or jsonb"
        yield blocker(Side.SHARED, TableName(*relation), message, fix)
    used = {tuple(row[0]): row[1:] for row in environment.rows(Side.SHARED, _SQL["used"], tables)}
    names = {"schemas": [name[0] for name in used], "names": [name[1] for name in used]}
    for schema, name in environment.rows(Side.SERVICE, _SQL["missing"], names):
        kind, create = used[schema, name]
        fix = create or f"create it in a revision of the service database, as the shared side has it ({kind})"
        yield info(Side.SERVICE, TableName(schema, name), f"the {kind} type does not exist here yet", fix)
