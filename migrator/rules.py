"""Stream rules as commands see them: what broke one, on either side, and how an operator lets it pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from cdc.lsn import format_lsn
from contexts.databases import Databases
from contexts.errors import CarveoutError, ConfigError, RefusedError
from contexts.model import Context, Side
from migrator.control import migrations
from migrator.run import Run
from validations.rules import store
from validations.rules.checker import described
from validations.rules.model import Recorded

VERSION = 1


def read(both: Databases, context: str) -> list[Recorded]:
    """All violations of a context, in the order of its streams."""
    found: list[Recorded] = []
    for side in Side:
        with both[side].connect("rules") as conn:
            found += store.read(conn, context, side)
    return sorted(found, key=lambda one: (one.epoch, one.violation.commit_lsn, one.number))


def accept(run: Run, name: str, reason: str | None) -> None:
    """Let the transaction of a violation pass, for good; who, when and why is kept.

    :raises ConfigError: there is no such violation.
    :raises RefusedError: it has been accepted, or its rows are there already.
    """
    found = next((one for one in read(run.databases, run.name) if one.id == name), None)
    if found is None:
        raise ConfigError(
            f"context {run.name!r}: there is no violation {name!r}", next_step=f"carveout rules list {run.name}"
        )
    if not found.stops:
        state = "was accepted before" if found.accepted_at else "did not stop the stream: its rows are applied"
        raise RefusedError(
            f"context {run.name!r}: violation {name} {state}",
            unchanged="nothing was changed",
            next_step=f"carveout rules list {run.name}",
        )
    conn = run.executor.connection(found.side)
    run.executor.act(found.side, f"accept violation {name}", lambda: store.accept(conn, run.name, found.number, reason))
    detail = {"violation": name, "rule": found.violation.rule, "reason": reason}
    run.executor.act(
        Side.SHARED, f"note it in the log of {run.name}",
        lambda: migrations.record(run.control, run.name, "rule accepted", detail),
    )  # fmt: skip


def summary(context: Context, both: Databases) -> dict[str, Any]:
    """The documented shape of ``rules`` in ``status``."""
    try:
        found = read(both, context.name)
    except (psycopg.Error, CarveoutError):  # a side that is down must not hide the rest of the status
        found = []
    return {
        "declared": len(context.rules),
        "violations": sum(one.violation.count for one in found),
        "transactions": len({(one.epoch, one.violation.commit_lsn) for one in found}),
        "waiting": [one.id for one in found if one.stops],
    }


def to_json(context: Context, found: Sequence[Recorded]) -> dict[str, Any]:
    """The documented shape of ``rules list --json``."""
    return {
        "version": VERSION,
        "context": context.name,
        "rules": [{"name": one.name, "kind": one.kind, "table": str(one.table), "policy": one.policy}
                  for one in context.rules],
        "violations": [violation(one) for one in found],
        "next_steps": next_steps(context.name, [one.id for one in found if one.stops])
        or [f"carveout status {context.name}"],
    }  # fmt: skip


def violation(one: Recorded) -> dict[str, Any]:
    """The documented shape of a violation."""
    what = one.violation
    return {
        "id": one.id,
        "rule": what.rule,
        "kind": what.kind,
        "policy": what.policy,
        "table": str(what.table),
        "epoch": one.epoch,
        "xid": what.xid,
        "commit_lsn": format_lsn(what.commit_lsn),
        "committed_at": what.committed_at,
        "count": what.count,
        "keys": what.keys,
        "applied_at": one.applied_at,
        "accepted_at": one.accepted_at,
        "accepted_by": one.accepted_by,
        "reason": one.reason,
    }


def next_steps(context: str, waiting: Sequence[str]) -> list[str]:
    """What an operator decides on."""
    return [f"carveout rules accept {context} {name}" for name in waiting]


def lines(context: Context, found: Sequence[Recorded]) -> list[str]:
    """What a terminal shows."""
    shown = [f"{context.name}: {len(context.rules)} rules, {len(found)} violations"]
    shown += [f"  {one.name}: {one.kind} on {one.table}, {one.policy}" for one in context.rules]
    return shown + [f"  {one.id}: {described(one.violation)}{_state(one)}" for one in found]


def _state(one: Recorded) -> str:
    if one.stops:
        return "; the stream waits for somebody to accept it"
    return f"; accepted by {one.accepted_by}" if one.accepted_at else ""
