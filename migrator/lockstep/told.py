"""What ``doctor`` says of lockstep: what is prepared, what becomes of it, and what only you can decide."""

from __future__ import annotations

from collections.abc import Iterator

from contexts.databases import Connection
from contexts.model import Side
from migrator import byhand
from migrator.lifecycle import State
from migrator.lockstep import findings, recovery
from migrator.lockstep.recovery import Fate, InDoubt
from migrator.run import Run

#: The worker ends what is prepared within about a second; after this it does not, or the application hangs.
LATE_S = 10.0


def lines(run: Run) -> Iterator[str]:
    """A sentence each, as :func:`migrator.doctor.diagnose` gives them."""
    service = run.executor.connection(Side.SERVICE)
    if findings.is_used(service, run.name):
        yield from _phase(run, service)
    for one in recovery.in_doubt(run.control, service, run.name):
        yield from _in_doubt(run, one)


def _phase(run: Run, service: Connection) -> Iterator[str]:
    if run.migration().state is State.LOCKSTEP:
        yield (
            f"applications write both sides: {findings.audited(service, run.name)} transactions were audited;"
            f" `carveout dual-write {run.name} off` leads out, whatever the service side does"
        )
    if differ := findings.unrepaired(service, run.name):
        yield f"! the audit found {differ} differences that stand: `carveout verify {run.name}`"


def _in_doubt(run: Run, one: InDoubt) -> Iterator[str]:
    prepared = f"{one.gid} is prepared on the service side for {one.age_s:.0f} s"
    mark = "! " if one.age_s > LATE_S else ""
    match one.fate:
        case Fate.COMMIT:
            yield f"{mark}{prepared} and committed on the shared side: the worker commits it, or you do"
            yield from byhand.as_lines(Side.SERVICE, [f"COMMIT PREPARED '{one.gid}'"])
        case Fate.ROLL_BACK:
            yield f"{mark}{prepared} and was rolled back on the shared side: the worker rolls it back, or you do"
            yield from byhand.as_lines(Side.SERVICE, [f"ROLLBACK PREPARED '{one.gid}'"])
        case Fate.WAITS:
            yield f"{mark}{prepared}; on the shared side its transaction is open ({_who(run, one)}), and decides"
        case Fate.UNDECIDED:
            yield from _undecided(one, prepared)


def _undecided(one: InDoubt, prepared: str) -> Iterator[str]:
    yield (
        f"! only you can decide: {prepared}, for a shared server that is another one now and does not know it: a"
        " fail-over has lost it, although its application may have been told that it was done"
    )
    yield "    both sides equal again, the write is lost:"
    yield from byhand.as_lines(Side.SERVICE, [f"ROLLBACK PREPARED '{one.gid}'"])
    yield "    or keep it on the service side alone, see its rows by a verification, and make the application write it:"
    yield from byhand.as_lines(Side.SERVICE, [f"COMMIT PREPARED '{one.gid}'"])


def _who(run: Run, one: InDoubt) -> str:
    row = run.control.execute(
        "SELECT pid, usename, application_name FROM pg_stat_activity WHERE backend_xid = %s::text::xid8::xid",
        (one.xid,),
    ).fetchone()
    return f"process {row[0]}, role {row[1]}, application {row[2] or '-'}" if row else "it ends just now"
