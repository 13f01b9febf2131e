"""One short text for the shape of tables: a proof holds only for the schema it was made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from contexts.catalog import Table
from contexts.model import TableName


def schema_fingerprint(tables: Mapping[TableName, Table]) -> str:
    """SHA-256 over columns, types and keys by name; object identifiers and sizes do not enter."""
    shape = [
        [*name, table.kind, table.primary_key, [
            [c.name, c.type_sql, c.not_null, c.identity, c.generated, c.collation] for c in table.columns
        ]]
        for name, table in sorted(tables.items())
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()
