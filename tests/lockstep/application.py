"""An application as a process: pays through the shim and says what was acknowledged. Killed by its environment."""

from __future__ import annotations

import sys

import psycopg

from contexts.model import Side
from migrator.shims.direct import GatedConnections


def main(shared: str, service: str, payments: str) -> None:
    """Each line on stdout is the memo of a payment whose commit has returned."""
    urls = {Side.SHARED: shared, Side.SERVICE: service}
    gated = GatedConnections("bank", {side: lambda side=side: psycopg.connect(urls[side]) for side in Side})  # type: ignore[misc]
    for number in range(int(payments)):
        memo = f"payment {number}"
        with gated.transaction() as conn:
            for account, amount in ((1 + number % 50, "1.00"), (51 + number % 50, "-1.00")):
                conn.execute("UPDATE bank.account SET balance = balance + %s::numeric WHERE id = %s", (amount, account))
                conn.execute(
                    "INSERT INTO bank.entry (account, amount, memo) VALUES (%s, %s, %s)", (account, amount, memo)
                )
        print(memo, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
