"""The wallet example's payment over two databases: money is held and captured, its point is given or expires.

In the shared database one transaction moved the money and gave the point. Here each service has its own.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from contexts.example import work
from contexts.example.transactions import CaptureHold, Expire, FreeHold, LatePoint, OpenHold, Points
from migrator.tcc.barrier import Barrier

Connection = psycopg.Connection[Any]
Connect = Callable[[], Connection]


@dataclass(frozen=True)
class WalletBranch:
    """Holds the payer's money, then captures the hold for the payee or releases it."""

    connect: Connect
    barrier: Barrier

    def try_(self, gid: uuid.UUID, arguments: Any, deadline: dt.datetime) -> None:
        """Hold the amount; the database refuses what the account does not have."""
        with self.connect() as conn:
            if self.barrier.try_(conn, gid, deadline):
                work.do(conn, OpenHold(str(gid), str(gid), arguments["payer"], arguments["amount"]))

    def confirm(self, gid: uuid.UUID, arguments: Any) -> None:
        """Capture the hold: the ledger transaction has the same id."""
        with self.connect() as conn:
            self.confirm_in(conn, gid, arguments)

    def cancel(self, gid: uuid.UUID, arguments: Any) -> None:
        """Release the hold, where there is one."""
        with self.connect() as conn:
            self.cancel_in(conn, gid, arguments)

    def confirm_in(self, conn: Connection, gid: uuid.UUID, arguments: Any) -> None:
        """Capture the hold in an open transaction."""
        if self.barrier.confirm(conn, gid):
            payer, payee, amount = (arguments[name] for name in ("payer", "payee", "amount"))
            work.do(conn, CaptureHold(str(gid), str(gid), payer, payee, amount))

    def cancel_in(self, conn: Connection, gid: uuid.UUID, arguments: Any) -> None:
        """Release the hold in an open transaction."""
        if self.barrier.cancel(conn, gid):
            work.do(conn, FreeHold(str(gid), str(gid), arguments["payer"], arguments["amount"], "released"))


@dataclass(frozen=True)
class HistoryBranch:
    """Gives the payment's point, pending as ever; a cancelled payment's point expires."""

    connect: Connect
    barrier: Barrier

    def try_(self, gid: uuid.UUID, arguments: Any, deadline: dt.datetime) -> None:
        """Give the point."""
        with self.connect() as conn:
            if self.barrier.try_(conn, gid, deadline):
                point = Points(arguments["payer"], arguments["points"], "other", arguments.get("memo"))
                work.do(conn, LatePoint(str(gid), str(gid), point))

    def confirm(self, gid: uuid.UUID, arguments: Any) -> None:
        """Nothing but the barrier: the settlement will confirm the point."""
        with self.connect() as conn:
            self.confirm_in(conn, gid, arguments)

    def cancel(self, gid: uuid.UUID, arguments: Any) -> None:
        """Let the point expire, where there is one."""
        with self.connect() as conn:
            self.cancel_in(conn, gid, arguments)

    def confirm_in(self, conn: Connection, gid: uuid.UUID, arguments: Any) -> None:
        """Nothing but the barrier, in an open transaction."""
        self.barrier.confirm(conn, gid)

    def cancel_in(self, conn: Connection, gid: uuid.UUID, arguments: Any) -> None:
        """Let the point expire in an open transaction."""
        if self.barrier.cancel(conn, gid):
            work.do(conn, Expire(str(gid), str(gid)))
