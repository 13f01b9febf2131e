"""Versions: every change of a table that passes, kept in the service database."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Database


def install(service: Database) -> None:
    """Create or upgrade the table that says which tables have versions."""
    revisions.upgrade(
        service,
        Path(__file__).parent,
        version_table="revision_history",
        version_schema=revisions.CONTROL_SCHEMA,
    )
