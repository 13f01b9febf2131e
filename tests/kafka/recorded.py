"""Recorded events and the databases that hold what they describe."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from cdc.events import Row
from cdc.kafka.settings import Encoding
from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Database
from contexts.embedded import available_majors
from contexts.model import TableName

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Recorded:
    """One recorded event as a consumer gets it."""

    topic: str
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @property
    def payload(self) -> dict[str, Any]:
        """The event without its schema; empty for a tombstone."""
        whole = json.loads(self.value) if self.value else {}
        payload: dict[str, Any] = whole["payload"] if whole.keys() == {"schema", "payload"} else whole
        return payload

    @property
    def table(self) -> str:
        """Schema and table of a row event, or nothing."""
        source = self.payload.get("source") or {}
        return f"{source.get('schema')}.{source.get('table')}"


def events(name: str) -> Iterator[Recorded]:
    """The events of a file, in order."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            value = None if one["value"] is None else _compact(one["value"])
            yield Recorded(one["topic"], value, [(k, _compact(v)) for k, v in one["headers"]])


def encoding(name: str) -> Encoding:
    """How the connector that was recorded wrote values."""
    return Encoding.of(json.loads((DATA / f"{name}.config.json").read_text()))


def run_sql(database: Database, file: str, **variables: str) -> None:
    """Run a recorded SQL file statement by statement, as it ran then."""
    psql = available_majors()[15] / "psql"
    given = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
    command = [str(psql), "-q", "-X", "-v", "ON_ERROR_STOP=1", *given, "-f", str(DATA / file)]
    # Not our conninfo: these files create types in the default search_path.
    done = subprocess.run([*command, database.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tables(conn: Connection, *schemas: str) -> dict[TableName, Table]:
    """All tables of the schemas."""
    names = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%s)",
        (list(schemas),),
    ).fetchall()
    return read_tables(conn, [TableName(*name) for name in names])


def texts(conn: Connection, table: Table, order: str = "") -> list[Row]:
    """What the table holds, as PostgreSQL text under the pinned settings, in the order of its written columns."""
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in table.written_columns)
    query = sql.SQL("SELECT {} FROM {}").format(columns, table.identifier())
    result = conn.execute(query + sql.SQL(order)).pgresult
    assert result is not None
    return [[result.get_value(row, col) for col in range(result.nfields)] for row in range(result.ntuples)]


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
