"""Each role tried on a side that is closed: a read and a write per table, as granted, rolled back.

In replica role, so that the write lock does not answer first; the mark of our sessions keeps the trial out of the notes
of the watch. An INSERT of defaults calls them, so a sequence or function that the role may not use is met here as it
would be by the application. A value of a sequence is used up; a switch sets it anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.model import TableName
from migrator.grants.rights import PUBLIC, Right


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a role could not do when it was tried."""

    role: str
    #: Empty where the role itself could not be taken on.
    table: str
    attempt: str
    #: The server's words, without values.
    reason: str

    @property
    def was_tried(self) -> bool:
        """False where we may not take the role on: then only the catalogs speak for it."""
        return bool(self.table)

    def __str__(self) -> str:
        if not self.was_tried:
            return f"role {self.role} cannot be tried: {self.reason}"
        return f"role {self.role} cannot {self.attempt} {self.table}: {self.reason}"


def attempt(conn: Connection, wanted: Iterable[Right]) -> Iterator[Refusal]:
    """Try what the rights of kind ``table`` and ``column`` allow, role by role; nothing stays."""
    by_role: dict[str, dict[tuple[TableName, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for right in sorted(wanted):
        if right.kind in ("table", "column") and right.role != PUBLIC:
            columns = by_role[right.role][TableName(right.schema, right.name), right.privilege]
            columns += [right.column] if right.kind == "column" else []
    for role, attempts in by_role.items():
        if reason := _refused(conn, role, sql.SQL("SELECT 1")):
            yield Refusal(role, "", "", reason)
            continue
        for (table, privilege), columns in attempts.items():
            if (query := _query(table, privilege, columns)) and (reason := _refused(conn, role, query)):
                yield Refusal(role, str(table), privilege, reason)


def _query(table: TableName, privilege: str, columns: list[str]) -> sql.Composed | None:
    name, listed = sql.Identifier(*table), sql.SQL(", ").join(map(sql.Identifier, sorted(set(columns))))
    match privilege:
        case "SELECT":
            return sql.SQL("SELECT {} FROM {} LIMIT 1").format(listed if columns else sql.SQL("1"), name)
        case "INSERT" if columns:
            values = sql.SQL(", ").join(sql.SQL("DEFAULT") for _ in set(columns))
            return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(name, listed, values)
        case "INSERT":
            return sql.SQL("INSERT INTO {} DEFAULT VALUES").format(name)
        case "UPDATE" if columns:
            first = sql.Identifier(min(columns))
            return sql.SQL("UPDATE {} SET {} = DEFAULT WHERE false").format(name, first)
        case "DELETE":
            return sql.SQL("DELETE FROM {} WHERE false").format(name)
        case _:
            return None


def _refused(conn: Connection, role: str, query: sql.SQL | sql.Composed) -> str:
    """Why the role may not, or nothing; a constraint that stops the empty row comes after all rights."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL session_replication_role = replica")
            conn.execute("SET LOCAL lock_timeout = '1s'")
            conn.execute("SET LOCAL row_security = on")
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            conn.execute(query)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
        # A row that a policy does not let pass is a matter of the row, not of the rights.
        if "row-level security" in (words := error.diag.message_primary or type(error).__name__):
            return ""
        return words
    except psycopg.Error:
        return ""
    return ""
