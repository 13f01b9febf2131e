"""A payment service as a process: pays by Try, Confirm, Cancel and says what was acknowledged."""

from __future__ import annotations

import sys

import psycopg

from migrator.tcc.barrier import Barrier
from migrator.tcc.coordinator import Cancelled, Coordinator, Participant
from migrator.tcc.payment import HistoryBranch, WalletBranch


def coordinator(wallet: str, history: str, limit_s: float = 10.0) -> Coordinator:
    """The wallet service begins the payments; its log is beside its accounts."""
    participants: dict[str, Participant] = {
        "wallet": WalletBranch(lambda: psycopg.connect(wallet), Barrier("wallet", "wallet")),
        "history": HistoryBranch(lambda: psycopg.connect(history), Barrier("history", "history")),
    }
    return Coordinator(lambda: psycopg.connect(wallet), "wallet", participants, limit_s=limit_s)


def call(payer: int, payee: int, amount: str) -> dict[str, dict[str, object]]:
    """One payment's arguments."""
    arguments: dict[str, object] = {"payer": payer, "payee": payee, "amount": amount, "points": 3}
    return {"wallet": arguments, "history": arguments}


def main(wallet: str, history: str, payments: str) -> None:
    """Print the id of every payment that is confirmed."""
    paying = coordinator(wallet, history, limit_s=2.0)
    for number in range(int(payments)):
        try:
            print(paying.run(call(2 + number % 5, 8 + number % 5, "1.00" if number % 3 else "99999999.00")), flush=True)
        except Cancelled:
            print("cancelled", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
