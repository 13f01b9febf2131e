"""An application as a process: pays through a shim and says what was acknowledged. Killed by its environment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contexts.model import Side
from migrator.shims import lockstep
from migrator.shims.aio import gated_async_engine
from migrator.shims.direct import GatedConnections

Urls = dict[Side, str]


def main(shared: str, service: str, payments: str, shim: str = "psycopg") -> None:
    """Each line on stdout is the memo of a payment whose commit has returned."""
    urls = {Side.SHARED: shared, Side.SERVICE: service}
    lockstep._ROUND_TRIP_CHARS = 1  # a part at a time, so that it can be killed between them
    if shim == "async":
        asyncio.run(_pay_async(urls, int(payments)))
    else:
        _pay(urls, int(payments))


def _parts(number: int) -> Iterator[dict[str, object]]:
    for account, amount in ((1 + number % 50, "1.00"), (51 + number % 50, "-1.00")):
        yield {"account": account, "amount": amount, "memo": f"payment {number}"}


def _pay(urls: Urls, payments: int) -> None:
    gated = GatedConnections("bank", {side: lambda side=side: psycopg.connect(urls[side]) for side in Side})  # type: ignore[misc]
    for number in range(payments):
        with gated.transaction() as conn:
            for part in _parts(number):
                conn.execute(
                    "UPDATE bank.account SET balance = balance + %(amount)s::numeric WHERE id = %(account)s", part
                )
                conn.execute(
                    "INSERT INTO bank.entry (account, amount, memo) VALUES (%(account)s, %(amount)s, %(memo)s)", part
                )
        print(f"payment {number}", flush=True)


async def _pay_async(urls: Urls, payments: int) -> None:
    engine = gated_async_engine("bank", urls)
    add = text("UPDATE bank.account SET balance = balance + cast(:amount AS numeric) WHERE id = :account")
    note = text("INSERT INTO bank.entry (account, amount, memo) VALUES (:account, cast(:amount AS numeric), :memo)")
    for number in range(payments):
        async with AsyncSession(engine) as session, session.begin():
            for part in _parts(number):
                await session.execute(add, part)
                await session.execute(note, part)
        print(f"payment {number}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
