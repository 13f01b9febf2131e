"""Runs Alembic revisions against one database: Carveout's own schema and a service's schema alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from contexts.databases import Connection, Database

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Engine

CONTROL_SCHEMA = "carveout"


def engine(database: Database, purpose: str) -> Engine:
    """A SQLAlchemy engine that connects as :meth:`Database.connect` does."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    def connect() -> Connection:
        return database.connect(purpose, autocommit=False)

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


def upgrade(
    database: Database, scripts: Path, *, version_table: str, version_schema: str, target: str = "heads"
) -> None:
    """Bring the database to revision ``target`` of the folder ``scripts``, in one transaction.

    An advisory lock keeps two upgrades of one folder apart.
    """
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = _config(scripts)
    script = ScriptDirectory.from_config(config)

    def revisions(current: object, _context: object) -> object:
        return script._upgrade_revs(target, current)  # type: ignore[arg-type]

    with (
        engine(database, "revisions").begin() as connection,
        EnvironmentContext(config, script, fn=revisions, destination_rev=target) as environment,
    ):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock(hashtext('carveout.revisions:{version_table}'))")
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{version_schema}"')
        environment.configure(connection=connection, version_table=version_table, version_table_schema=version_schema)
        environment.run_migrations()


def current(database: Database, *, version_table: str, version_schema: str) -> tuple[str, ...]:
    """The revisions that the database is at; empty where none has run."""
    from alembic.runtime.migration import MigrationContext

    with engine(database, "revisions").connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": version_table, "version_table_schema": version_schema}
        )
        return context.get_current_heads()


def _config(scripts: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
