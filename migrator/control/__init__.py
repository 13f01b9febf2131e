"""The control schema in the shared database: migrations, switches, journal, intents, events, workers."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Database


def install(shared: Database) -> None:
    """Create or upgrade the control tables in the shared database."""
    revisions.upgrade(
        shared, Path(__file__).parent, version_table="revision_control", version_schema=revisions.CONTROL_SCHEMA
    )
