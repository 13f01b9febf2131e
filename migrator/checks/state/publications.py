"""Publications that are not ours and take the moved tables, or everything: their subscribers see the stream as well."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning

_SQL = sqlfiles.load("migrator.checks.state", "publications.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        for name, everything, tables in environment.rows(side, _SQL["foreign"], [environment.oids(side)]):
            if everything:
                message = "is FOR ALL TABLES: it also publishes Carveout's own tables and what the stream writes here"
            else:
                message = (
                    f"publishes {', '.join(tables)}: its subscribers will get what the stream writes, and need a new"
                )
                message += " source in the end"
            fix = f"-- if nothing reads it:\n{statement('DROP PUBLICATION {}', name)}"
            yield warning(side, f"publication {name}", message, fix)
