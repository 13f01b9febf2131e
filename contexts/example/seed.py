"""The shared database of a prepaid wallet and rows for it, made by the server itself."""

from __future__ import annotations

from importlib import resources

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection

HOUSE = 1  # the account that pays in and may be overdrawn


def create(conn: Connection) -> None:
    """Create schemas, roles, tables and grants; the connection's role must be allowed to."""
    text = resources.files("contexts.example").joinpath("schema.sql").read_text(encoding="utf-8")
    conn.execute(sql.SQL(text))


def seed(conn: Connection, accounts: int = 1000, payments: int = 10_000) -> None:
    """Fill the empty tables in one transaction: customers, past payments with points, holds and cards.

    :param accounts: with the house account, at least 3.
    """
    statements = sqlfiles.load("contexts.example", "seed.sql")
    with conn.transaction():
        for statement in statements.values():
            conn.execute(statement, {"accounts": accounts, "payments": payments})
    for table in ("wallet.accounts", "wallet.ledger_entries", "wallet.holds", "history.points",
                  "history.settlements", "card.registrations"):  # fmt: skip
        conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*table.split("."))))
