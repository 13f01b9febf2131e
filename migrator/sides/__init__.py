"""What stands in both databases: the route, the write locks and the gate."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Database


def install(database: Database) -> None:
    """Create or upgrade the side tables and functions in either database."""
    revisions.upgrade(
        database, Path(__file__).parent, version_table="revision_side", version_schema=revisions.CONTROL_SCHEMA
    )
