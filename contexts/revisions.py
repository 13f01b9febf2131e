"""Runs Alembic revisions against one database: Carveout's own schema and a service's schema alike."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contexts.databases import Connection, Database

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from sqlalchemy import Engine

CONTROL_SCHEMA = "carveout"
#: Alembic keeps the environment that runs in a global of the process, and a worker has a thread for each context.
_ALEMBIC = threading.Lock()


def engine(database: Database, purpose: str, **settings: str) -> Engine:
    """A SQLAlchemy engine that connects as :meth:`Database.connect` does."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    def connect() -> Connection:
        return database.connect(purpose, autocommit=False, **settings)

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


def upgrade(
    database: Database,
    scripts: Path,
    *,
    version_table: str,
    version_schema: str,
    target: str = "heads",
    lock_timeout_ms: int = 0,
) -> None:
    """Bring the database to revision ``target`` of the folder ``scripts``, in one transaction.

    An advisory lock keeps two upgrades of one folder apart.

    :param lock_timeout_ms: how long one statement may wait for a lock; 0 waits without end.
    """
    settings = {"lock_timeout": f"{lock_timeout_ms}ms"}
    with (
        _ALEMBIC,
        engine(database, "revisions", **settings).begin() as connection,
        _environment(scripts, target) as environment,
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


def script(database: Database, scripts: Path, *, version_table: str, version_schema: str, target: str = "heads") -> str:
    """The SQL that :func:`upgrade` would run, without running it."""
    at = current(database, version_table=version_table, version_schema=version_schema)
    output = io.StringIO()
    with _ALEMBIC, _environment(scripts, target, as_sql=True, starting_rev=at) as environment:
        environment.configure(
            dialect_name="postgresql",
            dialect_opts={"paramstyle": "named"},
            output_buffer=output,
            version_table=version_table,
            version_table_schema=version_schema,
        )
        environment.run_migrations()
    return f'CREATE SCHEMA IF NOT EXISTS "{version_schema}";\n\n{output.getvalue()}'


def revision_names(scripts: Path) -> tuple[str, ...]:
    """The revisions of the folder, the first one first."""
    from alembic.script import ScriptDirectory

    found = ScriptDirectory.from_config(_config(scripts)).walk_revisions()
    return tuple(reversed([revision.revision for revision in found]))


def _environment(scripts: Path, target: str, **options: Any) -> EnvironmentContext:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = _config(scripts)
    folder = ScriptDirectory.from_config(config)

    def revisions(at: object, _context: object) -> object:
        return folder._upgrade_revs(target, at)  # type: ignore[arg-type]

    return EnvironmentContext(config, folder, fn=revisions, destination_rev=target, **options)


def _config(scripts: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
