"""Clients behind PgBouncers that pay without end and keep their own ledger, outside both databases."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Self

import psycopg

from contexts.model import Side
from tests.bouncer import PgBouncerProcess
from tests.migrator.moving import Bank
from tests.waiting import wait_until

PAUSE_S = 0.01
_PAY = (
    "WITH paid AS (UPDATE bank.account SET balance = balance + %(amount)s::numeric WHERE id = %(account)s)"
    " INSERT INTO bank.entry (account, amount, memo) VALUES (%(account)s, %(amount)s::numeric, %(memo)s)"
)


class Clients:
    """One thread per PgBouncer, each with one connection; a memo names each payment."""

    def __init__(self, bouncers: Sequence[PgBouncerProcess], entry: str = "bank") -> None:
        self.acknowledged: list[str] = []
        #: What each client was told that was no success, by the PgBouncer's name.
        self.errors: list[tuple[str, str]] = []
        self._unknown: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(one.name, one.url(entry)), daemon=True) for one in bouncers
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
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

    def _work(self, name: str, url: str) -> None:
        number, picks, conn = 0, random.Random(name), None
        while not self._stop.wait(PAUSE_S):
            number += 1
            memo = f"{name} {number}"
            try:
                if conn is None or conn.closed:
                    conn = psycopg.connect(url, prepare_threshold=None, autocommit=True)
                with conn.transaction():
                    for account, amount in zip(sorted(picks.sample(range(1, 201), 2)), ("-1.00", "1.00"), strict=True):
                        conn.execute(_PAY, {"account": account, "amount": amount, "memo": memo})
                self.acknowledged.append(memo)
            except psycopg.Error as error:
                self.errors.append((name, str(error)))
                if error.sqlstate is None or error.sqlstate.startswith(("08", "57")):
                    self._unknown.append(memo)
        if conn is not None:
            conn.close()
