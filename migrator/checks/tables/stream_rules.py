"""Every stream rule can be judged: its columns are in the stream, numbers are exact, and a row can be followed.

An update is compared with the row that the closed side holds under its key. Between partitions a row moves as a delete
and an insert, so nothing says what it was: rules about a change are refused on partitioned tables. A rule about an
amount needs an integer or numeric column.
"""

from __future__ import annotations

from collections.abc import Iterator

from contexts.catalog import Table
from contexts.model import Side
from contexts.rules import NEEDS_OLD, Balance, Monotonic, Rule
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker

#: int8, int2, int4, numeric: everything else either is inexact, or has a text that is no plain number.
_EXACT = frozenset({20, 21, 23, 1700})


def check(environment: Environment) -> Iterator[Finding]:
    tables = environment.tables(Side.SHARED)
    for rule in environment.context.rules:
        if (table := tables.get(rule.table)) is not None:  # a missing one is the business of the check `tables`
            for message, fix in _problems(rule, table):
                where = f"in {environment.context_file}: {fix}"
                yield blocker(Side.SHARED, table.name, f"rule {rule.name}: {message}", where)


def _problems(rule: Rule, table: Table) -> Iterator[tuple[str, str]]:
    columns = {column.name: column for column in table.columns}
    for name in rule.reads:
        if name not in columns:
            yield f"there is no column {name}", "name a column of the table"
        elif not columns[name].is_written:
            yield f"column {name} is generated, which no stream carries", "name the columns that it is made of"
    if isinstance(rule, (Balance, Monotonic)) and rule.column in columns:
        column = columns[rule.column]
        if column.base_type_oid not in _EXACT:
            yield f"column {rule.column} is {column.type_sql}, no exact number", "name an integer or numeric column"
    if isinstance(rule, NEEDS_OLD) and table.kind == "p":
        yield (
            f"{rule.kind} cannot be judged on a partitioned table: a row that moves is deleted and inserted",
            "declare it as an invariant instead",
        )
