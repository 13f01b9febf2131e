"""Stream rules: judged on every transaction before its rows are written."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Database


def install(database: Database) -> None:
    """Create or upgrade the table of the violations; both sides have one, as each may be the closed one."""
    revisions.upgrade(
        database,
        Path(__file__).parent,
        version_table="revision_rules",
        version_schema=revisions.CONTROL_SCHEMA,
    )
