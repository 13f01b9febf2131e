"""What must hold before a switch begins; all that does not is named at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from psycopg import sql

from contexts import schema
from contexts.errors import RefusedError
from contexts.model import Side
from migrator import connector
from migrator.control import intents, workers
from migrator.control.intents import Kind
from migrator.executor import Row
from migrator.grants import run as granting
from migrator.proof import latest_proof, why_not_proven
from migrator.run import Run
from migrator.sides import writelock
from migrator.sides.writelock import LockState
from migrator.switch import health, markers, sequences, tries
from migrator.traffic.traffic import Traffic
from migrator.watch import fence
from validations.parity.grants import grants

WORKER_SEEN_S = 10.0
PROBE_S = 10.0
Condition = Callable[[Run, Side, Side], Iterable[str]]


class Passing(str):
    """A reason that passes by itself."""


class NotYet(RefusedError):
    """Only reasons that pass by themselves are in the way."""

    transient = True


def require(runs: Sequence[Run], traffic: Traffic) -> None:
    """Refuse the switch with every reason there is.

    :raises RefusedError: names them all.
    """
    from_side, to_side = traffic.from_side, traffic.to_side
    reasons = [reason for run in runs for condition in CONDITIONS for reason in condition(run, from_side, to_side)]
    reasons += traffic.reasons()
    if not reasons:
        reasons = [reason for run in runs for reason in _probe(run, from_side, to_side)]
    if reasons:
        passing = all(isinstance(reason, Passing) for reason in reasons)
        names = ", ".join(run.name for run in runs)
        raise (NotYet if passing else RefusedError)(
            f"context {names!r} cannot switch to {to_side}: " + "; ".join(reasons),
            unchanged=f"nothing was changed, the {from_side} side is open",
            next_step=f"carveout status {runs[0].name}",
        )


def _way_back(run: Run, _from: Side, to_side: Side) -> Iterable[str]:
    """A rollback goes the way back, or not at all: then the reason is said, not what follows from it."""
    found = health.way_back(run, run.migration()) if to_side is Side.SHARED else None
    if found and found.lost_because:
        yield f"there is no way back: {found.lost_because}; the service side stays open (carveout complete {run.name})"


def worker_follows(run: Run) -> Iterable[str]:
    """Why the worker is not known to follow the open side closely."""
    report = workers.read(run.control, run.name)
    if report is None or report.age_s > WORKER_SEEN_S:
        yield f"no worker is running (carveout worker {run.name})"
    elif report.report.get("phase") != "streaming":
        yield f"the worker is {report.report.get('phase')}, not streaming"
    elif (lag := report.report.get("lag_s", 0.0)) > run.context.options.max_lag_s:
        yield Passing(f"the stream is {lag:.1f} s behind (limit {run.context.options.max_lag_s:g} s)")


def _worker(run: Run, _from: Side, _to: Side) -> Iterable[str]:
    return worker_follows(run)


def _connector(run: Run, _from: Side, _to: Side) -> Iterable[str]:
    if run.context.source == "kafka":
        yield from connector.problems(run)


def _not_paused(run: Run, _from: Side, _to: Side) -> Iterable[str]:
    if any(intent.kind is Kind.PAUSE for intent in intents.open_intents(run.control, run.name)):
        yield f"the worker is asked to pause (carveout resume {run.name})"


def _write_locks(run: Run, from_side: Side, to_side: Side) -> Iterable[str]:
    for side, wanted in ((from_side, LockState.OPEN), (to_side, LockState.CLOSED)):
        for table, state in writelock.states(run.executor, side, run.tables(side)).items():
            if state not in (wanted, LockState.MISSING):  # missing ones are made before the fence
                yield f"the write lock of {table.name} on the {side} side is {state}, not {wanted}"


def _same_tables(run: Run, from_side: Side, to_side: Side) -> Iterable[str]:
    names = {side: {table.name for table in run.tables(side)} for side in Side}
    for side in Side:
        for name in sorted(names[side] - names[side.other]):
            yield f"table {name} is only on the {side} side"


def _sequences(run: Run, from_side: Side, to_side: Side) -> Iterable[str]:
    try:
        sequences.pair(run, from_side, to_side)
    except RefusedError as error:
        yield error.message


def _grants(run: Run, _from: Side, to_side: Side) -> Iterable[str]:
    # A cutover asks for the way back too: what the shared side lacks would refuse the rollback when it is needed.
    for finding in grants(run.executor.connection(Side.SHARED), run.context):
        yield f"{finding.object} on the shared side: {finding.detail} ({finding.fix})"
    if to_side is Side.SERVICE:
        yield from granting.check(run).blocking
    else:
        yield from (str(refusal) for refusal in granting.refusals(run, to_side) if refusal.was_tried)


def _schema(run: Run, _from: Side, _to: Side) -> Iterable[str]:
    checked = schema.check(run.databases, run.context)
    if checked.current != checked.head:
        yield f"the service database is at revision {', '.join(checked.current)}, not {', '.join(checked.head)}"
    for difference in checked.differences:
        yield f"the schemas differ: {difference}"


def _prepared_transactions(run: Run, from_side: Side, _to: Side) -> Iterable[str]:
    rows: list[Row] = run.executor.read(
        from_side,
        sql.SQL(
            # It keeps the virtual id of its session until the server is started again.
            "SELECT DISTINCT p.gid FROM pg_prepared_xacts p"
            " JOIN pg_locks own ON own.transactionid = p.transaction AND own.pid IS NULL"
            " JOIN pg_locks l ON l.pid IS NULL AND l.virtualtransaction = own.virtualtransaction"
            " WHERE p.database = current_database() AND l.relation = ANY (%s::oid[])"
        ),
        ([table.oid for table in run.tables(from_side)],),
    )
    for (gid,) in rows:
        yield f"prepared transaction {gid!r} on the {from_side} side holds locks on the tables"


def _overdue_tries(run: Run, from_side: Side, _to: Side) -> Iterable[str]:
    return tries.overdue(run, from_side)


def _proof(run: Run, from_side: Side, _to: Side) -> Iterable[str]:
    if reason := why_not_proven(run, from_side):
        yield f"{reason} (carveout verify {run.name})"


def _rogue_writes(run: Run, _from: Side, to_side: Side) -> Iterable[str]:
    """Rows that were written past the lock are wrong until a proof from afterwards says that they are not."""
    writes = fence.rogue_writes(run.executor.connection(to_side), run.name)
    proof = latest_proof(run)
    if writes and (proof is None or proof.result.started_at < writes[0].at):
        yield f"{writes[0]}, past the write lock of the {to_side} side (carveout verify {run.name})"


def _probe(run: Run, from_side: Side, to_side: Side) -> Iterable[str]:
    """A marker that travels from the open to the closed side shows that the stream really moves."""
    marker = markers.new(run.name, "probe")
    markers.emit(run.executor, from_side, marker)
    if run.executor.dry:
        return
    try:
        markers.wait_applied(run.databases[to_side], marker, time.monotonic() + PROBE_S)
    except markers.MarkerLost:
        yield Passing(f"a probe did not come through the stream within {PROBE_S:.0f} s")


CONDITIONS: Sequence[Condition] = (
    _way_back,
    _worker,
    _connector,
    _not_paused,
    _same_tables,
    _write_locks,
    _sequences,
    _grants,
    _schema,
    _prepared_transactions,
    _overdue_tries,
    _proof,
    _rogue_writes,
)
