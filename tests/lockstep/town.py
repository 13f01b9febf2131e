"""A town of three databases: the shared one, and a service database each for a bank and a till; and an application."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Table, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from contexts.databases import Database, Databases
from contexts.model import Side
from migrator import sides
from migrator.executor import Live
from migrator.lockstep.recovery import recover
from migrator.shims.places import Moving
from migrator.shims.routing import RoutedSessions
from migrator.sides import gate, route

TABLES = """
CREATE SCHEMA bank; CREATE SCHEMA till;
CREATE TABLE bank.account (id bigint PRIMARY KEY, n int NOT NULL CHECK (n < 1000));
CREATE TABLE till.drawer (id bigint PRIMARY KEY, n int NOT NULL);
CREATE TABLE public.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, memo text NOT NULL);
INSERT INTO bank.account VALUES (1, 0), (2, 0); INSERT INTO till.drawer VALUES (1, 0), (2, 0)
"""
NAMES = {"bank": ["bank.account"], "till": ["till.drawer"]}


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    __table_args__ = {"schema": "bank"}  # noqa: RUF012 (SQLAlchemy's own way)
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]


class Drawer(Base):
    __tablename__ = "drawer"
    __table_args__ = {"schema": "till"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]


class Entry(Base):
    __tablename__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)
    memo: Mapped[str]


#: Core's view of a table that the session knows nothing of.
DRAWER = Table("drawer", MetaData(), Column("id", BigInteger), Column("n", BigInteger), schema="till")


class Town:
    """The databases, with gates and routes as a migration would leave them."""

    def __init__(self, shared: Database, bank: Database, till: Database) -> None:
        self.shared = shared
        self.services = {"bank": bank, "till": till}
        self._epoch = 0

    def build(self) -> None:
        for database in (self.shared, *self.services.values()):
            sides.install(database)
            with database.connect("test") as conn:
                conn.execute(TABLES)
        for context in self.services:
            self.prepare(context)

    def prepare(self, context: str) -> None:
        with self._executor(context) as executor:
            for side in Side:
                gate.create(executor, side, context)
        self.open(context, Side.SHARED)

    def open(self, context: str, open_side: Side) -> None:
        self._epoch += 1
        with self._executor(context) as executor:
            for side in Side:
                route.write(executor, side, context, open_side, self._epoch)

    def unprepare(self, context: str) -> None:
        with self._executor(context) as executor:
            for side in Side:
                gate.drop(executor, side, context)
                route.forget(executor, side, context)

    @contextmanager
    def closed(self, context: str) -> Iterator[None]:
        with gate.closed_gate(self.shared, context, lock_timeout_ms=5000, deadline=0):
            yield

    def waiting(self, context: str) -> int:
        """How many sessions wait for the gate of the shared side."""
        return self._one(
            self.shared,
            f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'carveout.gate_{context}'::regclass",
        )

    def sessions(self, **options: Any) -> RoutedSessions:
        contexts = {name: Moving(database.url, NAMES[name]) for name, database in self.services.items()}
        return RoutedSessions(self.shared.url, contexts, **{"wait_limit_s": 20.0, **options})

    def state(self) -> dict[str, int]:
        """The sums of both contexts on both sides, and how many lines the log has."""
        found = {"log": self._one(self.shared, "SELECT count(*) FROM public.log")}
        for name, table in (("bank", "bank.account"), ("till", "till.drawer")):
            for side, database in ((Side.SHARED, self.shared), (Side.SERVICE, self.services[name])):
                found[f"{name} {side}"] = self._one(database, f"SELECT sum(n) FROM {table}")
        return found

    def prepared(self) -> int:
        query = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
        return sum(self._one(database, query) for database in self.services.values())

    def recovered(self) -> bool:
        """Do what the worker of each context does; whether nothing is prepared any more."""
        for name, service in self.services.items():
            with self.shared.connect("test") as ours, service.connect("test") as theirs:
                recover(ours, theirs, name)
        return self.prepared() == 0

    def _one(self, database: Database, query: str) -> int:
        with database.connect("test") as conn:
            row = conn.execute(query.encode()).fetchone()
        return int(row[0] or 0) if row else 0

    @contextmanager
    def _executor(self, context: str) -> Iterator[Live]:
        live = Live(Databases(self.shared, self.services[context]), "test")
        try:
            yield live
        finally:
            live.close()


def pay(session: Any, *, log: bool = True) -> None:
    """One more everywhere: by the unit of work, by an ORM statement and as raw SQL."""
    session.get(Account, 1, with_for_update=True).n += 1
    session.execute(update(Drawer).values(n=Drawer.n + 1).where(Drawer.id == 1))
    if log:
        session.execute(text("INSERT INTO log (memo) VALUES ('paid')"))


def main(shared: str, bank: str, till: str, payments: str) -> None:
    """An application as a process; each line on stdout is a payment whose commit has returned."""
    town = Town(*(Database(Side.SERVICE, url) for url in (shared, bank, till)))
    sessions = town.sessions(across="two-phase")
    for number in range(int(payments)):
        with sessions.begin() as session:
            pay(session)
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
