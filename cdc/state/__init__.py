"""Durable state of a stream, kept on its closed side in the same transactions as the rows."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Database


def install(database: Database) -> None:
    """Create or upgrade the stream's tables in schema ``carveout`` of either side."""
    revisions.upgrade(
        database,
        Path(__file__).parent,
        version_table="revision_stream",
        version_schema=revisions.CONTROL_SCHEMA,
    )
