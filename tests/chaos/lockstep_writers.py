"""Application processes that write random statements through the shim and count what was acknowledged."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any

import psycopg
from sqlalchemy import Engine, Identity, TextClause, exc, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from contexts.model import Side
from migrator.shims.direct import GatedConnections
from migrator.shims.engine import gated_engine
from migrator.shims.gate import GateClosed
from migrator.shims.lockstep import LockstepRefused, Prepared
from migrator.shims.question import Question

ACCOUNTS = 1000
#: Refused wholly, and tried again: what an application does with them.
AGAIN = (GateClosed, LockstepRefused, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure,
         psycopg.errors.ReadOnlySqlTransaction, exc.DBAPIError)  # fmt: skip
Execute = Callable[..., Any]


@dataclass
class Counters:
    """What all processes have done, together."""

    acknowledged: Any
    #: Transactions that were written to both sides.
    dual: Any
    #: Writes that the database refused, because the other phase was on.
    refused: Any
    stop: Any


def counters() -> Counters:
    """Fresh ones."""
    context = mp.get_context("spawn")
    return Counters(context.Value("q", 0), context.Value("q", 0), context.Value("q", 0), context.Event())


def start(number: int, urls: dict[Side, str], shared: Counters, mutant: str) -> Any:
    """One process that pays until it is told to stop."""
    arguments = (number, urls, shared, mutant)
    process = mp.get_context("spawn").Process(target=_main, args=arguments, daemon=True)
    process.start()
    return process


def _main(number: int, urls: dict[Side, str], shared: Counters, mutant: str) -> None:
    _count_dual(shared.dual)
    if mutant == "no gate":
        _drop_the_gate()
    rng = random.Random(number)
    engine = gated_engine("bank", urls, pool_size=1)
    gated = GatedConnections("bank", {side: lambda side=side: psycopg.connect(urls[side]) for side in Side})  # type: ignore[misc]
    for n in itertools.count():
        if shared.stop.is_set():
            break
        _until_taken(rng, engine, gated, f"p{number}-{n}", shared)
        _count(shared.acknowledged)
    gated.close()
    engine.dispose()


def _until_taken(rng: random.Random, engine: Engine, gated: GatedConnections, memo: str, shared: Counters) -> None:
    while True:
        try:
            rng.choice((_session, _orm, _core, _raw, _raw))(rng, engine, gated, memo)
            return
        except AGAIN as error:
            if isinstance(getattr(error, "orig", error), psycopg.errors.ReadOnlySqlTransaction):
                _count(shared.refused)


def _count(value: Any) -> None:
    with value.get_lock():
        value.value += 1


def _session(rng: random.Random, engine: Engine, _gated: GatedConnections, memo: str) -> None:
    with Session(engine) as session, session.begin():
        if rng.random() < 0.3:
            savepoint = session.begin_nested()
            _pay(rng, _bound(session.execute), "never")
            savepoint.rollback()
        _pay(rng, _bound(session.execute), memo)


class Base(DeclarativeBase):
    """The bank's tables as the ORM maps them."""


class Account(Base):
    """One account."""

    __tablename__ = "account"
    __table_args__ = {"schema": "bank"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[Decimal]


class Entry(Base):
    """One entry."""

    __tablename__ = "entry"
    __table_args__ = {"schema": "bank"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    account: Mapped[int]
    amount: Mapped[Decimal]
    memo: Mapped[str]


def _orm(rng: random.Random, engine: Engine, _gated: GatedConnections, memo: str) -> None:
    first, second = sorted(rng.sample(range(1, ACCOUNTS + 1), 2))
    amount = Decimal(rng.randrange(1, 500)) / 100
    with Session(engine) as session, session.begin():
        for number, signed in ((first, amount), (second, -amount)):
            session.get_one(Account, number, with_for_update=True).balance += signed
            session.add(Entry(account=number, amount=signed, memo=memo))


def _core(rng: random.Random, engine: Engine, _gated: GatedConnections, memo: str) -> None:
    with engine.begin() as connection:
        _pay(rng, _bound(connection.execute), memo)
        if rng.random() < 0.2:
            rows = [{"a": 1 + rng.randrange(ACCOUNTS), "m": f"bulk of {memo}"} for _ in range(20)]
            connection.execute(text("INSERT INTO bank.entry (account, amount, memo) VALUES (:a, 0, :m)"), rows)


def _raw(rng: random.Random, _engine: Engine, gated: GatedConnections, memo: str) -> None:
    with gated.transaction() as conn:
        _pay(rng, conn.execute, memo)
        also = rng.randrange(6)
        if also == 0:
            with conn.cursor().copy("COPY bank.entry (account, amount, memo) FROM STDIN") as copy:
                for _ in range(10):
                    copy.write_row((1 + rng.randrange(ACCOUNTS), 0, f"copied with {memo}"))
        elif also == 1:
            conn.execute("DELETE FROM bank.entry WHERE id IN (SELECT id FROM bank.entry WHERE amount = 0 AND id >="
                         " (SELECT max(id) * %s FROM bank.entry)::bigint ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED)",
                         (rng.random(),))  # fmt: skip
        elif also == 2:
            with suppress(psycopg.errors.DivisionByZero), conn.transaction():
                conn.execute("UPDATE bank.account SET balance = balance / 0 WHERE id = 1")


def _pay(rng: random.Random, execute: Execute, memo: str) -> None:
    accounts = sorted(rng.sample(range(1, ACCOUNTS + 1), 2))
    cents = rng.randrange(1, 500)
    for account, sign in zip(accounts, ("", "-"), strict=True):
        amount = f"{sign}{cents // 100}.{cents % 100:02}"
        execute("UPDATE bank.account SET balance = balance + %s::numeric WHERE id = %s", (amount, account))
        execute("INSERT INTO bank.entry (account, amount, memo) VALUES (%s, %s::numeric, %s)", (account, amount, memo))


def _bound(execute: Execute) -> Execute:
    """SQLAlchemy's way to say the same."""

    def run(statement: str, values: tuple[object, ...]) -> Any:
        return execute(_named(statement), {f"v{place}": value for place, value in enumerate(values)})

    return run


@cache
def _named(statement: str) -> TextClause:
    named = re.sub("%s", partial(_placeholder, itertools.count()), statement.replace("::", "\\:\\:"))
    return text(named)


def _placeholder(numbers: Iterator[int], _: re.Match[str]) -> str:
    return f":v{next(numbers)}"


def _count_dual(dual: Any) -> None:
    settle = Prepared.settle

    def counted(self: Prepared) -> None:
        _count(dual)
        settle(self)

    Prepared.settle = counted  # type: ignore[method-assign]


def _drop_the_gate() -> None:
    init = Question.__init__

    def ungated(self: Question, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        for name in ("_patient", "_first", "_quick"):
            asked, locks = re.subn("LOCK TABLE [^;]*;", "SELECT 1;", getattr(self, name))
            assert locks == 1
            setattr(self, name, asked)

    Question.__init__ = ungated  # type: ignore[method-assign]
