"""The story of the demo: the wallet moves, comes back, and moves again, while the services go on paying.

The load keeps its own ledger of what was acknowledged, outside both databases; at the end every line of it is
looked up on the side that is open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.example import seed
from contexts.example.ledger import Ledger, Outcome
from contexts.example.load import Load
from contexts.example.oracle import Verdict, oracle
from contexts.model import Side
from migrator.demo.stage import DemoFailed, Stage
from migrator.demo.traffic import ServiceGate

#: Foreign keys of tables that stay to tables that move.
CUT = (("history.points", "points_account_id_fkey"), ("card.registrations", "registrations_account_id_fkey"))
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How large the example is and how hard it is used."""

    accounts: int = 2_000
    payments: int = 60_000
    rate: float = 260.0
    #: Transactions that are acknowledged between two acts.
    between: int = 400


def play(stage: Stage, say: Say, size: Size) -> Verdict:
    """Play all acts on a stage that is set up.

    :raises DemoFailed: something went another way than it should.
    """
    _set_up(stage, say, size)
    path = stage.folder / "acknowledged.jsonl"
    ledger = Ledger(path)
    with Load(partial(ServiceGate, stage), ledger, rate=size.rate) as load:
        began = time.monotonic()
        _acts(stage, say, load, size)
        load.wait_for(size.between)
        seconds = time.monotonic() - began
        acknowledged = load.stats.total(Outcome.ACKNOWLEDGED)
    say(f"load: {acknowledged} write transactions acknowledged in {seconds:.0f} s ({acknowledged / seconds:.0f}/s)")
    refused = load.stats.total(Outcome.REJECTED), load.stats.total(Outcome.UNKNOWN)
    say(f"load: {refused[0]} refused or withdrawn ({dict(load.stats.reasons)}), {refused[1]} of unknown outcome")
    return _judge(stage, say, path)


def _set_up(stage: Stage, say: Say, size: Size) -> None:
    for side in Side:
        with stage.database(side).connect("demo") as conn:
            say(f"{side} database: PostgreSQL {conn.info.server_version // 10000}")
            if side is Side.SHARED:
                seed.create(conn)
                seed.seed(conn, size.accounts, size.payments)
            else:
                _create_roles(conn)
    say(f"seeded: {size.accounts} accounts, {size.payments} payments; five services begin to write")


def _create_roles(conn: Connection) -> None:
    """The operator's part on the service database's server."""
    conn.execute("CREATE ROLE wallet_service LOGIN")
    conn.execute("CREATE ROLE ledger_reader LOGIN")


def _acts(stage: Stage, say: Say, load: Load, size: Size) -> None:
    load.wait_for(50)
    _cut_foreign_keys(stage, say)
    _command(stage, say, "prepare", "wallet")
    _copy_with_a_kill(stage, say)
    load.wait_for(size.between)
    _verify(stage, say)
    _switch(stage, say, "cutover")
    load.wait_for(size.between)
    _verify(stage, say)
    _switch(stage, say, "rollback")
    load.wait_for(size.between)
    _verify(stage, say)
    _switch(stage, say, "cutover")
    load.wait_for(size.between)
    _command(stage, say, "complete", "wallet", "--confirm", "wallet")


def _cut_foreign_keys(stage: Stage, say: Say) -> None:
    """What the preflight check asks the operator for: no table that stays may refer to one that moves."""
    with stage.database(Side.SHARED).connect("demo") as conn:
        for table, constraint in CUT:
            name = sql.Identifier(*table.split("."))
            _persist(conn, sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(constraint)))
            say(f"  dropped foreign key {constraint} of {table}, which the boundary cuts (carveout check names it)")


def _persist(conn: Connection, statement: sql.Composed) -> None:
    """Run a statement that locks tables in another order than the load does, until it wins."""
    while True:
        try:
            conn.execute(statement)
            return
        except psycopg.errors.DeadlockDetected:
            pass


def _copy_with_a_kill(stage: Stage, say: Say) -> None:
    say(f"$ carveout worker wallet   (pid {stage.start_worker()})")
    with stage.database(Side.SERVICE).connect("demo") as conn:
        stage.wait("a part is copied", lambda: _parts(conn)[0] > 0)
        stage.kill_worker()
        done, planned = _parts(conn)
    say(f"  kill -9 of the worker, with {done} of {planned} parts of the copy committed")
    say(f"$ carveout worker wallet   (pid {stage.start_worker()})")
    stage.wait("the stream follows", lambda: _streams(stage))
    with stage.database(Side.SERVICE).connect("demo") as conn:
        rows = conn.execute("SELECT sum(rows) FROM carveout.copy_part").fetchone()
    say(f"  the copy went on and is complete: {rows[0] if rows else 0} rows; the stream follows")


def _parts(conn: Connection) -> tuple[int, int]:
    row = conn.execute("SELECT count(*) FILTER (WHERE done), count(*) FROM carveout.copy_part").fetchone()
    assert row is not None
    return row[0], row[1]


def _streams(stage: Stage) -> bool:
    status = stage.json("status", "wallet")
    worker = status.get("worker") or {}
    return status["state"] in ("streaming", "switched") and worker.get("phase") == "streaming"


def _verify(stage: Stage, say: Say) -> None:
    stage.wait("the stream follows", lambda: _streams(stage))
    found = stage.json("verify", "wallet")
    if not found["passed"]:
        raise DemoFailed(f"the proof is not green: {found}")
    say(
        f"$ carveout verify wallet\n  {found['verdict']}: {found['rows']} rows of {len(found['tables'])} tables at"
        f" {found['lsn_last']}, {found['differences']} differences, under live writes"
    )


def _switch(stage: Stage, say: Say, verb: str) -> None:
    stage.wait("the stream has caught up", lambda: _lag(stage) < 2.0)
    report: dict[str, Any] = stage.json(verb, "wallet")
    parts = ", ".join(f"{part} {milliseconds:.0f}" for part, milliseconds in report["breakdown_ms"].items())
    say(
        f"$ carveout {verb} wallet\n  the {report['to']} side is open; writes were blocked for"
        f" {report['write_block_ms']:.0f} ms ({parts})"
    )


def _lag(stage: Stage) -> float:
    return float((stage.json("status", "wallet").get("worker") or {}).get("lag_s", 1e9))


def _command(stage: Stage, say: Say, *arguments: str) -> None:
    say(f"$ carveout {' '.join(arguments)}")
    for line in stage.run(*arguments).splitlines():
        say(f"  {line}")


def _judge(stage: Stage, say: Say, path: Any) -> Verdict:
    with stage.database(Side.SHARED).connect("demo") as shared, stage.database(Side.SERVICE).connect("demo") as service:
        verdict = oracle({"wallet": service, "history": shared, "card": shared}, path)
    say(f"ledger of the load against the open sides: {verdict}")
    return verdict
