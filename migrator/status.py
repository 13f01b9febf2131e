"""Everything that is known about a context's migration, as one documented value (``docs/json.md``)."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from contexts.databases import Connection
from contexts.model import Side
from migrator import connector, rules
from migrator.continuous.shown import line as verifying_line
from migrator.continuous.shown import verifying
from migrator.control import intents, locks, migrations, switches, workers
from migrator.control.migrations import Migration
from migrator.control.switches import Outcome
from migrator.lifecycle import State
from migrator.lockstep import findings
from migrator.proof import latest_proof, why_not_proven
from migrator.run import Run
from migrator.switch.health import way_back

VERSION = 1
WORKER_SEEN_S = 10.0


def status(run: Run) -> dict[str, Any]:
    """The status of one context; reads both sides, changes nothing."""
    migration = run.migration()
    found: dict[str, Any] = {
        "version": VERSION,
        "context": run.name,
        "state": migration.state,
        "open_side": migration.open_side,
        "epoch": migration.epoch,
        "updated_at": migration.updated_at,
    }
    if migration.state is State.PLANNED:
        return {**found, "next_steps": next_steps(migration, None, None, worker_runs=False)}
    worker, carried = _worker(run), connector.health(run, migration)
    switch = switches.current(run.control, run.name)
    unproven = why_not_proven(run, migration.open_side) if migration.state.streams else None
    broken = rules.summary(run.context, run.databases)
    found |= {
        "worker": worker,
        "connector": carried,
        "intents": [
            {"kind": intent.kind, "state": intent.state, "payload": intent.payload}
            for intent in intents.open_intents(run.control, run.name)
        ],
        "proof": proof.to_json() if (proof := latest_proof(run)) else None,
        "not_proven_because": unproven,
        "verifying": verifying(run),
        "rules": broken,
        "lockstep": findings.summary(run.control, run.executor.connection(Side.SERVICE), run.name),
        "last_switch": _last_switch(run.control, run.name),
        "way_back": back.to_json() if (back := way_back(run, migration)) else None,
        "next_steps": ([f"carveout doctor {run.name}"] if carried and carried["failed"] else [])
        + rules.next_steps(run.name, broken["waiting"])
        + next_steps(
            migration,
            switch.outcome if switch else None,
            unproven,
            worker_runs=bool(worker and worker["running"]),
            is_final=bool(back and (back.lost_because or back.window_is_over)),
        ),
    }
    return found


def next_steps(
    migration: Migration,
    switch: Outcome | None,
    unproven: str | None,
    *,
    worker_runs: bool,
    is_final: bool = False,
) -> list[str]:
    """The commands that lead on from here, the likeliest first.

    :param is_final: there is no way back any more, or its time is over.
    """
    name = migration.context
    if switch is not None or migration.state is State.SWITCHING:
        return [f"carveout resume {name}"]
    start_worker = [] if worker_runs else [f"carveout worker {name}"]
    match migration.state:
        case State.PLANNED | State.ABORTED:
            return [f"carveout check {name}", f"carveout prepare {name}"]
        case State.PREPARED | State.COPYING:
            return start_worker or [f"carveout status {name} --watch"]
        case State.STREAMING:
            return start_worker or [f"carveout verify {name}" if unproven else f"carveout cutover {name}"]
        case State.LOCKSTEP:
            on = f"carveout verify {name}" if unproven else f"carveout cutover {name}"
            return start_worker or [on, f"carveout dual-write {name} off"]
        case State.SWITCHED if is_final:
            return [f"carveout complete {name}"]
        case State.SWITCHED:
            verify = [f"carveout verify {name}"] if unproven else []
            return start_worker or [*verify, f"carveout complete {name}", f"carveout rollback {name}"]
        case State.COMPLETING:
            return [f"carveout complete {name}"]
        case State.ABORTING:
            return [f"carveout abort {name}"]
        case State.COMPLETED | State.SWITCHING:
            return []


def lines(found: dict[str, Any]) -> list[str]:
    """The status as a terminal shows it."""
    shown = [f"{found['context']}: {found['state']}, the {found['open_side']} side is open"]
    if worker := found.get("worker"):
        shown += _worker_lines(worker)
    elif "worker" in found:
        shown.append("  worker: none has run")
    shown += _connector_lines(found.get("connector"))
    shown += [_asked(intent) for intent in found.get("intents", ())]
    shown += _proof(found)
    shown += [verifying_line(found["verifying"])] if found.get("verifying") else []
    shown += _rules(found.get("rules"))
    if found.get("lockstep"):
        shown += _lockstep_lines(found["lockstep"])
    if switch := found.get("last_switch"):
        shown.append(f"  last switch: to {switch['to']}, {switch['outcome']}{_blocked(switch)}")
    if back := found.get("way_back"):
        shown += _way_back_lines(back)
    shown += [f"  next: {step}" for step in found["next_steps"]]
    return shown


def _way_back_lines(back: dict[str, Any]) -> list[str]:
    if not back["possible"]:
        return [f"  NO WAY BACK: {back['lost_because']}"]
    kept = f"{back['kept_bytes'] or 0} bytes of log are kept for it"
    if back["window_is_over"]:
        return [f"  way back: its time was over at {back['until']}; {kept}"]
    return [f"  way back: possible{' until ' + str(back['until']) if back['until'] else ''}; {kept}"]


def _proof(found: dict[str, Any]) -> list[str]:
    """The proof in one line: what it says, what it saw, how old it is, and whether it allows a switch."""
    proof, unproven = found.get("proof"), found.get("not_proven_because")
    switch = f"allows no switch: {unproven}" if unproven else "allows a switch"
    if not proof:
        return [f"  proof: none, {switch}"] if unproven else []
    return [
        f"  proof: {proof['verdict']}, {proof['rows']} rows of {proof['tables']} tables at {proof['lsn']},"
        f" {proof['age_s']:.0f} s old of {proof['max_age_s']:.0f} s, schema {proof['schema_fingerprint'][:8]};"
        f" {switch}"
    ]


def _rules(rules: dict[str, Any] | None) -> list[str]:
    if not rules or not (rules["declared"] or rules["violations"]):
        return []
    waits = f"; THE STREAM WAITS for {', '.join(rules['waiting'])}" if rules["waiting"] else ""
    return [f"  rules: {rules['declared']}, broken by {rules['transactions']} transactions{waits}"]


def _worker_lines(worker: dict[str, Any]) -> list[str]:
    what = "running" if worker["running"] else f"NOT running, last seen {worker['age_s']:.0f} s ago"
    shown = [f"  worker: {what} (pid {worker['pid']} on {worker['host']}), {worker['phase']}"]
    if group := worker.get("group"):
        shown.append(
            f"  group: {group['name']}, generation {group['generation']}: this worker holds {group['topic']},"
            f" {group['standing_by']} more stand by"
        )
    if worker.get("lag_bytes") is not None:
        shown.append(f"  lag: {worker['lag_s']:.1f} s, {worker['lag_bytes']} bytes; applied to {worker['end_lsn']}")
    if copying := worker.get("copy"):
        done = 100 * copying["estimated_bytes_done"] / max(1, copying["estimated_bytes_total"])
        eta = f", ~{copying['eta_s']:.0f} s left" if copying["eta_s"] is not None and done >= 1 else ""
        shown.append(f"  copy: {copying['rows']} rows, {done:.0f} %, {copying['bytes_per_s'] / 1e6:.1f} MB/s{eta}")
    if watch := worker.get("watch"):
        shown += _watch_lines(watch)
    if outbox := worker.get("outbox"):
        shown.append(_outbox_line(outbox))
    shown += [f"  {key}: {worker[key]}" for key in ("paused", "error") if worker.get(key)]
    return shown


def _connector_lines(carried: dict[str, Any] | None) -> list[str]:
    if carried is None:
        return []
    states = ", ".join(filter(None, (carried["state"], *carried["tasks"]))) or "not there"
    shown = [f"  connector {carried['connector']}: {states}"]
    if carried["failed"]:
        shown = [f"  CONNECTOR FAILED: {carried['connector']} ({states}): {carried['error']}"]
    if carried["lag_records"] is not None:
        size = carried["lag_bytes_estimated"]
        shown.append(f"  topic: {carried['lag_records']} records to apply" + (f", ~{size} bytes" if size else ""))
    if parts := carried.get("partitions"):
        lags = ", ".join(str(one["lag_records"]) for one in parts)
        shown.append(f"  rows: {len(parts)} partitions, with {lags} records to apply; transactions are applied whole")
    if carried["slot_lag_bytes"] is not None:
        shown.append(f"  slot: keeps {carried['slot_lag_bytes']} bytes of log until the connector confirms them")
    return shown + [f"  NOT TOLD: {why}" for why in carried["unanswered"]]


def _lockstep_lines(lockstep: dict[str, Any]) -> list[str]:
    shown = [
        f"  written: {lockstep['mode']}; {lockstep['audited']} transactions audited, {lockstep['found']} differences"
        f" found, {lockstep['differences']} stand, {lockstep['prepared']} prepared;"
        f" {lockstep['service_reads']:g} % of reads on the service side"
    ]
    if read := lockstep["shadow_reads"]:
        runs, differ = (sum(one[key] for one in read) for key in ("runs", "differences"))
        shown.append(f"  shadow reads: {runs} compared, {differ} differ")
    return shown + [
        f"  without the shim: {writer['role']} ({writer['application'] or '-'}) in {writer['table']},"
        f" {writer['transactions']} transactions, the last at {writer['last_seen']}"
        for writer in lockstep["unshimmed"]
    ]


def _outbox_line(outbox: dict[str, Any]) -> str:
    waiting = f"{outbox.get('waiting', 0)} events wait"
    if outbox.get("oldest_s") is not None:
        waiting += f", the oldest for {outbox['oldest_s']:.0f} s"
    if outbox.get("held"):
        waiting += f", {outbox['held']} HELD: carveout outbox status names them"
    return f"  outbox: {waiting}" + (f"; {outbox['error']}" if outbox.get("error") else "")


def _watch_lines(watch: dict[str, Any]) -> list[str]:
    shown = []
    if watch.get("rogue_writes"):
        shown.append(
            f"  ROGUE WRITES on the closed {watch['side']} side: {watch['rogue_writes']}, the last at"
            f" {watch['last_rogue_at']}: carveout doctor names them"
        )
    return shown + ([f"  the closed side cannot be watched: {watch['error']}"] if watch.get("error") else [])


def _asked(intent: dict[str, Any]) -> str:
    waits = intent["payload"].get("waits")
    return f"  asked: {intent['kind']} " + (
        f"to {intent['payload']['to']}: {waits}" if waits else f"({intent['state']})"
    )


def _blocked(switch: dict[str, Any]) -> str:
    milliseconds = switch["write_block_ms"]
    return f", writes blocked for {milliseconds:.0f} ms" if milliseconds is not None else ""


def _worker(run: Run) -> dict[str, Any] | None:
    report = workers.read(run.control, run.name)
    if report is None:
        return None
    running = locks.is_held(run.control, run.name, "worker") and report.age_s < WORKER_SEEN_S
    told = {key: value for key, value in report.report.items() if key != "connector"}  # asked anew, worker or not
    found = {"running": running, "pid": report.pid, "host": report.host, "age_s": report.age_s, **told}
    if group := found.get("group"):
        found["group"] = {**group, "standing_by": workers.standing_by(run.control, run.name)}
    return found


def _last_switch(conn: Connection, context: str) -> dict[str, Any] | None:
    row = conn.execute(
        sql.SQL(
            "SELECT to_side, outcome, started_at, ended_at, breakdown, reason FROM carveout.switch"
            " WHERE context = %s ORDER BY started_at DESC LIMIT 1"
        ),
        (context,),
    ).fetchone()
    if row is None:
        return None
    to_side, outcome, started_at, ended_at, measured, reason = row
    counted, parts = switches.split(measured)
    return {
        "to": to_side,
        "outcome": outcome,
        "started_at": started_at,
        "ended_at": ended_at,
        **counted,
        "breakdown_ms": parts,
        "reason": reason,
    }


def overview(conn: Connection) -> list[Migration]:
    """Every migration that the shared database knows."""
    return migrations.read_all(conn)
