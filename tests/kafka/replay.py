"""A plain applier for tests: one statement per change, and nothing clever."""

from __future__ import annotations

from psycopg import sql

from cdc.events import UNCHANGED, Delete, Insert, Message, Missing, Relation, Row, Transaction, Truncate, Update
from contexts.databases import Connection


def apply(conn: Connection, transaction: Transaction, *, skip: frozenset[str] = frozenset()) -> None:
    """Write a transaction's changes, but for the tables in ``skip``."""
    for change in transaction.changes:
        match change:
            case Insert(relation, new) if str(relation.table) not in skip:
                _insert(conn, relation, new)
            case Update(relation, new, old, _) if str(relation.table) not in skip:
                _update(conn, relation, new, old or new)
            case Delete(relation, old, _) if str(relation.table) not in skip:
                where = _where(relation, old)
                conn.execute(sql.SQL("DELETE FROM {} WHERE {}").format(_name(relation), where))
            case Truncate(relations):
                names = sql.SQL(", ").join(_name(relation) for relation in relations)
                conn.execute(sql.SQL("TRUNCATE {}").format(names))
            case Insert() | Update() | Delete() | Message():
                pass


def _insert(conn: Connection, relation: Relation, new: Row) -> None:
    assert not any(isinstance(value, Missing) for value in new)
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in relation.columns)
    values = sql.SQL(", ").join(_literal(value) for value in new)
    conn.execute(
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(_name(relation), columns, values)
    )


def _update(conn: Connection, relation: Relation, new: Row, old: Row) -> None:
    changes = [
        sql.SQL("{} = {}").format(sql.Identifier(c.name), _literal(value))
        for c, value in zip(relation.columns, new, strict=True)
        if value is not UNCHANGED
    ]
    done = conn.execute(
        sql.SQL("UPDATE {} SET {} WHERE {}").format(_name(relation), sql.SQL(", ").join(changes), _where(relation, old))
    )
    assert done.rowcount == 1, relation.table


def _where(relation: Relation, old: Row) -> sql.Composed:
    parts = [
        sql.SQL("{}::text IS NOT DISTINCT FROM {}").format(sql.Identifier(c.name), _literal(value))
        for c, value in zip(relation.columns, old, strict=True)
        if c.is_key
    ]
    assert parts
    return sql.SQL("ctid = (SELECT ctid FROM {} WHERE {} LIMIT 1)").format(
        _name(relation), sql.SQL(" AND ").join(parts)
    )


def _literal(value: object) -> sql.Composable:
    assert value is None or isinstance(value, bytes)
    return sql.SQL("NULL") if value is None else sql.Literal(value.decode())


def _name(relation: Relation) -> sql.Identifier:
    return sql.Identifier(*relation.table)
