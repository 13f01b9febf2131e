"""The statements that an administrator runs once on each side, so that the mover needs no superuser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import conninfo, sql

from contexts.databases import Databases
from contexts.model import Context, Side

#: Stands where only the administrator knows the name.
OWNER = "OWNER_OF_THE_TABLES"
_NOTES = """\
-- Where an administrator is no superuser (managed services), a right may have a way of its own; `carveout check` tries:
--   REPLICATION            Amazon RDS: GRANT rds_replication TO {mover}; and the parameter rds.logical_replication = 1
--                          Cloud SQL: ALTER ROLE {mover} REPLICATION; and the flag cloudsql.logical_decoding = on
--   session_replication_role
--                          Amazon RDS lets members of rds_superuser set it. Where `carveout check` says that it
--                          cannot be set, that server can be no side: triggers and foreign keys would fire twice.
--   ownership              a member of the owner's role (or the owner) may publish a table and make its triggers.
-- PostgreSQL 14 and older have no GRANT SET ON PARAMETER: there the mover has to be a superuser.
"""


@dataclass(frozen=True, slots=True)
class Script:
    """What to run on one side."""

    side: Side
    #: The address without secrets.
    database: str
    statements: tuple[str, ...]

    def text(self) -> str:
        """As psql reads it."""
        return "\n".join([f"-- {self.side} database ({self.database})", *self.statements, ""])


def scripts(both: Databases, contexts: Sequence[Context], owners: Sequence[str], role: str | None) -> list[Script]:
    """One script per side; nothing is asked of the servers, where the role may not exist yet.

    :param owners: the roles that own the tables on the shared side.
    :param role: the mover's name where it is not the one of the URLs.
    """
    return [_script(both, side, contexts, owners, role) for side in Side]


def notes(both: Databases, role: str | None) -> str:
    """What differs on managed services, by right."""
    return _NOTES.format(mover=_quoted(role or _user(both.shared.url)))


def _script(
    both: Databases, side: Side, contexts: Sequence[Context], owners: Sequence[str], role: str | None
) -> Script:
    mover = role or _user(both[side].url)
    statements = [*_login(mover, both[side].url), *_optional(mover)]
    if side is Side.SHARED:
        statements += _on_shared(mover, contexts, owners or [OWNER])
    else:
        statements += _on_service(mover, contexts)
    return Script(side, both[side].shown(), tuple(statements))


def _login(mover: str, url: str) -> Iterator[str]:
    database = _quoted(str(conninfo.conninfo_to_dict(url).get("dbname") or "postgres"))
    yield f"CREATE ROLE {_quoted(mover)} LOGIN REPLICATION;  -- then give it its password: \\password"
    yield f"GRANT CONNECT, CREATE ON DATABASE {database} TO {_quoted(mover)};  -- the schema carveout, the publication"
    yield f"GRANT SET ON PARAMETER session_replication_role TO {_quoted(mover)};  -- triggers do not fire twice"


def _optional(mover: str) -> Iterator[str]:
    yield f"GRANT pg_read_all_stats TO {_quoted(mover)};  -- optional: names who blocks, and who was left behind"
    yield f"GRANT pg_signal_backend TO {_quoted(mover)};  -- optional: ends blockers, where you ask for it"


def _on_shared(mover: str, contexts: Sequence[Context], owners: Iterable[str]) -> Iterator[str]:
    for owner in owners:
        yield f"GRANT {_quoted(owner)} TO {_quoted(mover)};  -- publication, write locks, rows"
    for schema in _schemas(contexts):
        yield f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {_quoted(mover)};"


def _on_service(mover: str, contexts: Sequence[Context]) -> Iterator[str]:
    """The tables are the mover's own: its revisions make them. Schemas too, but ``public`` is there already."""
    if "public" in _schemas(contexts):
        yield f"GRANT USAGE, CREATE ON SCHEMA public TO {_quoted(mover)};"
    for role in sorted({grant.role for context in contexts for grant in context.grants}):
        yield f"CREATE ROLE {_quoted(role)} LOGIN;  -- where it is not there yet; then give it its password: \\password"
        yield f"GRANT {_quoted(role)} TO {_quoted(mover)};  -- optional: lets a cutover try the role first"


def _schemas(contexts: Sequence[Context]) -> list[str]:
    return sorted({table.schema for context in contexts for table in context.table_names})


def _user(url: str) -> str:
    return str(conninfo.conninfo_to_dict(url).get("user") or "carveout_mover")


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()
