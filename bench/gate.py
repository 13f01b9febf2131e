"""What the gate costs an application while nothing is switched: small transactions of one client over SQLAlchemy."""

from __future__ import annotations

import time
from functools import partial

from sqlalchemy import Engine, create_engine, text

from bench.harness import Comparison, Contestant, Details, Ends, Rig, compare
from contexts.databases import Database, Databases
from contexts.model import Side
from migrator import sides
from migrator.executor import Live
from migrator.shims.engine import gated_engine
from migrator.sides import gate, route

CONTEXT = "bench"
_ROWS = 1_000
_TABLE = "CREATE TABLE public.gate_bench (id int PRIMARY KEY, n int NOT NULL)"
_FILL = f"INSERT INTO public.gate_bench SELECT i, 0 FROM generate_series(1, {_ROWS}) i"  # noqa: S608
_PAY = text("UPDATE public.gate_bench SET n = n + 1 WHERE id = :id")


def contest(bench: Rig, transactions: int, rounds: int) -> Comparison:
    """Plain SQLAlchemy against a gated engine: before any migration, and with one prepared and at rest."""
    job = Comparison(
        "gate, nothing is switched", transactions, f"one client, {transactions} transactions of one update"
    )
    run = partial(paid, transactions=transactions)
    contestants = [
        Contestant("SQLAlchemy alone", partial(run, gated=False), _without),
        Contestant("gated, no migration", partial(run, gated=True), _without),
        Contestant("gated, migration at rest", partial(run, gated=True), _with),
    ]
    return compare(bench, job, contestants, rounds)


def paid(ends: Ends, transactions: int, gated: bool) -> Details:
    """Pay; the time is that of the transactions alone."""
    engine = _engine(ends, gated)
    with engine.begin() as conn:  # connected before the time counts
        conn.execute(_PAY, {"id": 1})
    began = time.monotonic()
    for number in range(transactions):
        with engine.begin() as conn:
            conn.execute(_PAY, {"id": 1 + number % _ROWS})
    seconds = time.monotonic() - began
    engine.dispose()
    return {"seconds": seconds, "us_per_transaction": round(seconds / transactions * 1e6, 1)}


def _engine(ends: Ends, gated: bool) -> Engine:
    if gated:
        return gated_engine(CONTEXT, {Side.SHARED: ends.source, Side.SERVICE: ends.target})
    return create_engine(ends.source.replace("postgresql://", "postgresql+psycopg://"))


def _without(bench: Rig) -> None:
    for server in (bench.source, bench.target):
        bench.recreate(server)
    with _database(bench, Side.SHARED).connect("bench") as conn:
        conn.execute(_TABLE)
        conn.execute(_FILL)


def _with(bench: Rig) -> None:
    both = Databases(_database(bench, Side.SHARED), _database(bench, Side.SERVICE))
    _without(bench)
    executor = Live(both, "bench")
    for side in Side:
        sides.install(both[side])
        gate.create(executor, side, CONTEXT)
        route.write(executor, side, CONTEXT, Side.SHARED, 1)
    executor.close()


def _database(bench: Rig, side: Side) -> Database:
    return Database(side, bench.ends.source if side is Side.SHARED else bench.ends.target)
