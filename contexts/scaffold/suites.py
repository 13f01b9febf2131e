"""The first expectation suite of each table: what its schema promises, said once more for the rows themselves.

A server keeps these promises for rows that come through it; a suite says them of whatever is there now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Column, Table, read_tables
from contexts.databases import Connection
from contexts.model import TableName

_SQL = sqlfiles.load("contexts.scaffold", "promises.sql")
_NUMERIC_OID = 1700
_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")
Promise = tuple[str, str, list[str], str]


def suites(conn: Connection, names: Sequence[TableName]) -> dict[str, str]:
    """The text of a suite for each table by the name of its file, from the catalogs that ``conn`` reads."""
    tables = read_tables(conn, names)
    promised: dict[TableName, list[Promise]] = {}
    for schema, name, *promise in conn.execute(_SQL["promises"], ([tables[n].oid for n in names],)):
        kind, constraint, columns, condition = promise
        promised.setdefault(TableName(schema, name), []).append((kind, constraint, columns, condition))
    found: dict[str, str] = {}
    for name in names:
        stem = base = _PLAIN.sub("_", f"{name.schema}.{name.name}")
        while f"{stem}.json" in found:
            stem = f"{base}_{len(found)}"
        expectations = [*_expectations(tables[name], promised.get(name, []))]
        if expectations:
            found[f"{stem}.json"] = _text(stem, name, _is_empty(conn, tables[name]), expectations)
    return found


def _expectations(table: Table, promises: Sequence[Promise]) -> Iterator[dict[str, Any]]:
    for column in table.columns:
        if column.not_null:
            yield _entry("expect_column_values_to_not_be_null", column=column.name)
    for column in table.columns:
        if (scale := _scale(column)) > 0:
            yield _entry("expect_column_values_to_be_exact_money", column=column.name, scale=scale)
            yield _entry("expect_column_sum_to_equal_other_side", column=column.name)
    for kind, constraint, columns, condition in promises:
        if kind == "c" and ".*" not in condition:
            yield _entry("expect_rows_to_satisfy", constraint, condition=condition)
        elif kind != "c" and len(columns) == 1:
            yield _entry("expect_column_values_to_be_unique", constraint, column=columns[0])
        elif kind != "c":
            # To a server, rows are never the same where a value is missing.
            missing = "any_value_is_missing"
            yield _entry("expect_compound_columns_to_be_unique", constraint, column_list=columns, ignore_row_if=missing)


def _entry(type: str, description: str = "", /, **arguments: Any) -> dict[str, Any]:
    said = {"description": description} if description else {}
    return {"type": type, "kwargs": arguments, **said}


def _scale(column: Column) -> int:
    """Digits of the fraction of a ``numeric(p, s)``; 0 where the type promises none."""
    if column.type_oid != _NUMERIC_OID or column.typmod < 0:
        return 0
    scale = (column.typmod - 4) & 0x7FF  # numeric_typmod_scale of PostgreSQL's numeric.c: 11 bits, signed
    return scale if scale < 0x400 else 0


def _is_empty(conn: Connection, table: Table) -> bool:
    query = sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(table.identifier())
    return conn.execute(query).fetchall() == [(True,)]


def _text(stem: str, table: TableName, is_empty: bool, expectations: list[dict[str, Any]]) -> str:
    own = {"table": str(table), **({"may_be_empty": True} if is_empty else {})}
    lines = ",\n".join(f"    {json.dumps(entry, ensure_ascii=False)}" for entry in expectations)
    meta = json.dumps({"carveout": own}, ensure_ascii=False)
    return f'{{\n  "name": {json.dumps(stem)},\n  "meta": {meta},\n  "expectations": [\n{lines}\n  ]\n}}\n'
