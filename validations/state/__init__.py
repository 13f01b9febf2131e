"""What verifications saw, kept in schema ``carveout`` of the service database."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Database


def install(database: Database) -> None:
    """Create or upgrade the tables of the verifications."""
    revisions.upgrade(
        database,
        Path(__file__).parent,
        version_table="revision_verification",
        version_schema=revisions.CONTROL_SCHEMA,
    )
