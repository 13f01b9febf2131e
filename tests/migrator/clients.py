"""Clients that pay without end and keep their own ledger, outside both databases."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

import psycopg
from sqlalchemy import Engine, exc, text

from contexts.errors import CarveoutError
from contexts.model import Side
from tests.bouncer import PgBouncerProcess
from tests.migrator.moving import Bank
from tests.waiting import wait_until

PAUSE_S = 0.01
_PAY = (
    "WITH paid AS (UPDATE bank.account SET balance = balance + {amount} WHERE id = {account})"
    " INSERT INTO bank.entry (account, amount, memo) VALUES ({account}, {amount}, {memo})"
)
PAY = _PAY.format(amount="%(amount)s::numeric", account="%(account)s", memo="%(memo)s")
#: Pays one account's part of a payment after the other, in one transaction.
Payer = Callable[[list[dict[str, object]]], None]


def behind(bouncer: PgBouncerProcess, entry: str = "bank") -> Payer:
    """Over one connection through a PgBouncer."""
    return _over(lambda: bouncer.url(entry))


def through(engine: Engine) -> Payer:
    """Through a gated engine of SQLAlchemy's."""
    statement = text(_PAY.format(amount="CAST(:amount AS numeric)", account=":account", memo=":memo"))

    def pay(parts: list[dict[str, object]]) -> None:
        with engine.begin() as conn:
            for part in parts:
                conn.execute(statement, part)

    return pay


def straight(bank: Bank) -> Payer:
    """Straight to the side that took the last payment; where that one refuses, to the other one from then on."""
    sides = [Side.SHARED]
    payers = {side: _over(lambda side=side: bank.both[side].url) for side in Side}  # type: ignore[misc]

    def pay(parts: list[dict[str, object]]) -> None:
        try:
            payers[sides[0]](parts)
        except psycopg.errors.ReadOnlySqlTransaction:
            sides[0] = sides[0].other
            raise

    return pay


class Clients:
    """One thread per payer; a memo names each payment."""

    def __init__(self, payers: Mapping[str, Payer]) -> None:
        self.acknowledged: list[str] = []
        #: What each client was told that was no success, by its name.
        self.errors: list[tuple[str, str]] = []
        self._unknown: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=one, daemon=True) for one in payers.items()]

    @classmethod
    def of(cls, bouncers: Sequence[PgBouncerProcess]) -> Self:
        """One client behind each."""
        return cls({one.name: behind(one) for one in bouncers})

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each finish its payment."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def assert_paying(self) -> None:
        """Somebody's payment is acknowledged from now on."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > before, lambda: str(self.errors[-3:]))

    def assert_kept(self, bank: Bank, side: Side) -> None:
        """Called when all have stopped: the ledger's payments are there, once, and no others."""
        with bank.both[side].connect("test") as conn:
            memos = Counter(m for (m,) in conn.execute("SELECT memo FROM bank.entry WHERE memo IS NOT NULL").fetchall())
        lost = [memo for memo in self.acknowledged if memos[memo] != 2]
        assert not lost, f"acknowledged, not there: {lost[:5]}"
        foreign = memos.keys() - set(self.acknowledged) - set(self._unknown)
        assert not foreign, f"there, never acknowledged: {sorted(foreign)[:5]}"

    def _work(self, name: str, pay: Payer) -> None:
        number, picks = 0, random.Random(name)
        while not self._stop.wait(PAUSE_S):
            number += 1
            memo, accounts = f"{name} {number}", sorted(picks.sample(range(1, 201), 2))
            amounts = zip(accounts, ("-1.00", "1.00"), strict=True)
            try:
                pay([{"account": account, "amount": amount, "memo": memo} for account, amount in amounts])
                self.acknowledged.append(memo)
            except (psycopg.Error, exc.DBAPIError, CarveoutError) as error:
                self.errors.append((name, str(error)))
                cause = getattr(error, "orig", error)
                state = getattr(cause, "sqlstate", None)
                if isinstance(cause, psycopg.Error) and (state is None or state.startswith(("08", "57"))):
                    self._unknown.append(memo)


def _over(url: Callable[[], str]) -> Payer:
    kept: list[psycopg.Connection] = []

    def pay(parts: list[dict[str, object]]) -> None:
        if not kept or kept[0].closed:
            kept[:] = [psycopg.connect(url(), prepare_threshold=None, autocommit=True)]
        try:
            with kept[0].transaction():
                for part in parts:
                    kept[0].execute(PAY, part)
        except psycopg.OperationalError:
            with suppress(psycopg.Error):
                kept[0].close()
            raise

    return pay
