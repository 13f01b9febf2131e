"""An application that pays without end while things break, and what must be true of its payments afterwards."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.errors import CarveoutError
from contexts.model import Side
from tests.migrator.moving import Bank
from tests.waiting import PATIENCE_S, wait_until

PAUSE_S = 0.01


class Payments:
    """Pays in a thread, through whichever side takes it, and remembers what was acknowledged."""

    def __init__(self, bank: Bank, *, accounts: int = 200) -> None:
        self.acknowledged: list[str] = []
        #: The connection broke before the answer to a commit.
        self.unknown: list[str] = []
        self._bank, self._accounts = bank, accounts
        self._side = Side.SHARED
        self._connections: dict[Side, Connection] = {}
        self._stop, self._go, self._idle = threading.Event(), threading.Event(), threading.Event()
        self._random = random.Random(7)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="payments", daemon=True)

    def __enter__(self) -> Self:
        self._go.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._go.set()
        self._thread.join()
        for conn in self._connections.values():
            conn.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody pays during the block."""
        self._go.clear()
        assert self._idle.wait(PATIENCE_S)
        assert self._failure is None, self._failure
        yield
        self._idle.clear()
        self._go.set()

    def pay_some(self, count: int = 20) -> None:
        """Wait until some more payments are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= enough or self._failure is not None)
        assert self._failure is None, self._failure

    def assert_kept(self, side: Side) -> None:
        """Every acknowledged payment is on the side exactly once, and no money came or went."""
        with self._bank.both[side].connect("test") as conn:
            memos = conn.execute("SELECT memo FROM bank.entry WHERE memo IS NOT NULL").fetchall()
            total = conn.execute("SELECT sum(balance)::text FROM bank.account").fetchone()
        entries = Counter(memo for (memo,) in memos)
        lost = [memo for memo in self.acknowledged if entries[memo] != 2]
        assert not lost, f"not there with its two entries: {lost[:5]}"
        foreign = entries.keys() - set(self.acknowledged) - set(self.unknown)
        assert not foreign, f"never acknowledged: {sorted(foreign)[:5]}"
        assert set(entries.values()) <= {2}
        assert total == (f"{self._accounts * 100}.00",)

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop.wait(PAUSE_S):
                if not self._go.is_set():
                    self._idle.set()
                    self._go.wait()
                    continue
                number += 1
                self._pay(f"payment {number}")
        except BaseException as error:
            self._failure = error
            self._idle.set()

    def _pay(self, memo: str) -> None:
        try:
            with self._connection() as conn, conn.transaction():
                self._write(conn, memo)
            self.acknowledged.append(memo)
        except psycopg.errors.ReadOnlySqlTransaction:
            self._side = self._side.other
        except (psycopg.OperationalError, CarveoutError):
            self.unknown.append(memo)
            self._side = self._side.other

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        conn = self._connections.get(self._side)
        if conn is None or conn.closed:
            conn = self._connections[self._side] = self._bank.both[self._side].connect("shop")
        try:
            yield conn
        finally:
            if conn.broken:
                with suppress(psycopg.Error):
                    conn.close()

    def _write(self, conn: Connection, memo: str) -> None:
        accounts = sorted(self._random.sample(range(1, self._accounts + 1), 2))
        for account, sign in zip(accounts, ("-", ""), strict=True):
            amount = sign + "1.00"
            conn.execute("UPDATE bank.account SET balance = balance + %s::numeric WHERE id = %s", (amount, account))
            conn.execute("INSERT INTO bank.entry (account, amount, memo) VALUES (%s, %s, %s)", (account, amount, memo))


def the_open_side(bank: Bank) -> Side:
    """The one side that takes application writes; fails where it is not exactly one."""
    sides = [side for side in Side if bank.is_open(side)]
    assert len(sides) == 1, f"open for writes: {sides or 'no side'}"
    return sides[0]


def assert_whole(bank: Bank, payments: Payments) -> Side:
    """Wait until both sides are equal, and check what must hold then; returns the open side."""
    with payments.paused():
        bank.await_equal()
        side = the_open_side(bank)
        for one in Side:
            payments.assert_kept(one)
        with bank.both[side.other].connect("test") as conn:
            broken = conn.execute(
                sql.SQL("SELECT count(*) FROM bank.entry e WHERE NOT EXISTS (SELECT FROM bank.account a"
                        " WHERE a.id = e.account)")
            ).fetchone()  # fmt: skip
        assert broken == (0,)
    return side
