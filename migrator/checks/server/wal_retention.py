"""No server setting throws away the WAL that a slow stream still needs: the stream would have to start again."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning

#: The setting and the value with which it never invalidates a slot.
_NEVER = {"max_slot_wal_keep_size": "-1", "idle_replication_slot_timeout": "0"}


def check(environment: Environment) -> Iterator[Finding]:
    query = sql.SQL("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s) ORDER BY name DESC")
    for side in Side:
        for name, value in environment.rows(side, query, [list(_NEVER)]):
            if value != _NEVER[name]:
                message = f"is {value}: a stream that stands longer than that loses its slot and must start again"
                alter = statement("ALTER SYSTEM SET {} = {}", name, sql.Literal(int(_NEVER[name])))
                yield warning(side, name, message, f"{alter}\nSELECT pg_catalog.pg_reload_conf();")
