"""Something dies at a point of a switch while clients pay through two PgBouncers; ``resume`` must put all right.

What dies: the driver, the worker, a PgBouncer, or one of the servers, which is stopped as a crash stops it. It is
started again, ``abort`` must refuse and name ``resume`` where the switch is half done, and ``resume`` must leave one
open side that both PgBouncers lead to. The clients' own ledger is the sum: what was acknowledged is there, once.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.errors import CarveoutError
from contexts.killpoints import POINTS
from contexts.model import Side
from tests.bouncer import PgBouncerProcess, declaration, port
from tests.conftest import need, server_folder
from tests.migrator import driving
from tests.migrator.clients import Clients
from tests.migrator.commands import run, run_killed_at
from tests.migrator.moving import Bank, WorkerProcess
from tests.migrator.payments import the_open_side
from tests.waiting import wait_until

OPTIONS = "batch_age_ms = 20\nswitch_deadline_ms = 3000\nwrite_block_budget_ms = 8000\nhold_patience_s = 2\n"
VICTIMS = ("driver", "worker", "pgbouncer", "shared", "service")
DECISIVE = ("switch.gate_closed", "switch.repointed", "switch.committed")
ALL = tuple(point for point in POINTS if point.startswith(("switch.", "traffic.")))
#: From here on the switch can only be finished.
DECIDED = {*ALL[ALL.index("switch.committed") : ALL.index("switch.finished") + 1], "traffic.one_resumed"}
VERBS = {Side.SERVICE: "cutover", Side.SHARED: "rollback"}


@dataclass(frozen=True)
class Case:
    """What dies where, on the way to which side."""

    victim: str
    point: str
    to_side: Side = Side.SERVICE

    def __str__(self) -> str:
        return f"{VERBS[self.to_side]}, {self.victim} at {self.point}"


def cases(victims: Sequence[str], points: Sequence[str]) -> list[Case]:
    """All of them, in both directions."""
    return [Case(*one) for one in itertools.product(victims, points, (Side.SERVICE, Side.SHARED))]


@dataclass
class Place:
    """The bank, and everything that may die."""

    bank: Bank
    servers: dict[Side, Server]
    bouncers: list[PgBouncerProcess]
    workers: list[WorkerProcess] = field(default_factory=list)

    def start_worker(self) -> None:
        self.workers.append(self.bank.worker())

    def kill(self, victim: str) -> None:
        if victim == "worker":
            self.workers[-1].kill()
        elif victim == "pgbouncer":
            self.bouncers[-1].stop()
        else:
            self.servers[Side(victim)].stop(immediate=True)

    def start(self, victim: str) -> None:
        if victim == "worker":
            self.start_worker()
        elif victim == "pgbouncer":
            self.bouncers[-1].start()
        elif victim != "driver":
            self.servers[Side(victim)].start()

    def go_to(self, side: Side) -> None:
        """Open a side and prove it, ready to leave it again."""
        self.prove()
        if the_open_side(self.bank) is not side:
            run(self.bank, VERBS[side], "bank")
            self.prove()

    def prove(self) -> None:
        """As soon as there is a worker again: the last report may still be that of the one that died."""

        def proven() -> bool:
            ended = run(self.bank, "verify", "bank", expect=None)
            assert ended.code != 3, ended
            return ended.code == 0

        self.bank.await_streaming()
        wait_until(proven, self.bank.worker_log)

    def assert_all_lead_to(self, side: Side) -> None:
        assert the_open_side(self.bank) is side
        for one in self.bouncers:
            assert one.shows("bank") == (port(self.bank.both[side]), False), one.name


def faults(folder: Path, wanted: Sequence[Case], *, tell: Callable[[str], None] = print) -> list[str]:
    """Go through the cases under one load.

    :returns: what happened in each case, a line per case; fails where something is not as it must be.
    """
    lines = []
    with places(folder) as place, Clients.of(place.bouncers) as clients:
        for case in wanted:
            place.go_to(case.to_side.other)
            clients.assert_paying()
            began, before = time.monotonic(), len(clients.errors)
            outcome = _died(place, case)
            clients.assert_paying()
            errors = clients.errors[before:]
            _judge(case, errors)
            lines.append(f"{case!s:48} {outcome:24} {len(errors):3} errors {time.monotonic() - began:5.1f} s")
            tell(lines[-1])
        place.go_to(Side.SHARED)
        clients.stop()
        _settle_up(place, clients)
        run(place.bank, "abort", "bank", "--confirm", "bank")
        assert place.bank.state() == "aborted"
    return lines


def _died(place: Place, case: Case) -> str:
    """Let it die, start it again, resume; returns what has become of the switch."""
    bank = place.bank
    if case.victim == "driver":
        run_killed_at(bank, case.point, VERBS[case.to_side], "bank")
    else:
        wait_until(lambda: _killed_at(place, case), bank.worker_log)
        place.start(case.victim)
    if bank.state() == "switching":
        refused = run(bank, "abort", "bank", "--confirm", "bank", expect=4)
        assert "next: carveout resume bank" in refused.err, refused.err
    side = _decided(bank)
    assert side is case.to_side or case.point not in DECIDED
    said = run(bank, "resume", "bank").out
    outcome = next((word for word in ("undone", "finished") if f"was {word}" in said), "nothing to resume")
    place.assert_all_lead_to(side)
    return f"{outcome}, {side} open"


def _killed_at(place: Place, case: Case) -> bool:
    """Whether the switch came to the point; on a busy machine it may have gone back before."""
    killed = False

    def kill() -> None:
        nonlocal killed
        killed = True
        place.kill(case.victim)

    with pytest.MonkeyPatch.context() as patch:
        driving.at_point(patch, case.point, kill)
        with suppress(CarveoutError):  # whatever it says, what must hold afterwards is the same
            driving.switch(place.bank, case.to_side)
    if not killed:
        place.prove()
    return killed


def _decided(bank: Bank) -> Side:
    """The side that the journal names: what is half done must end there."""
    with bank.both.shared.connect("test") as conn:
        row = conn.execute("SELECT open_side FROM carveout.migration WHERE context = 'bank'").fetchone()
    assert row
    return Side(row[0])


def _judge(case: Case, errors: Sequence[tuple[str, str]]) -> None:
    """No client ever meets the closed side; only of a server or of its own PgBouncer a client sees anything at all."""
    assert not [error for _, error in errors if "closed for writes" in error], (case, errors[:3])
    if case.victim in ("driver", "worker"):
        assert not errors, (case, errors[:3])


def _settle_up(place: Place, clients: Clients) -> None:
    place.bank.await_equal()
    for side in Side:
        clients.assert_kept(place.bank, side)
        with place.bank.both[side].connect("test") as conn:
            assert conn.execute("SELECT sum(balance)::text FROM bank.account").fetchone() == ("20000.00",)


@contextmanager
def places(folder: Path) -> Iterator[Place]:
    """A bank that streams between two servers of its own, and two PgBouncers in front."""
    for major in (16, 18):
        need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
    with server_folder() as programs, ExitStack() as stack:
        servers = {
            Side.SHARED: stack.enter_context(Server(programs / "shared", 16)),
            Side.SERVICE: stack.enter_context(Server(programs / "service", 18)),
        }
        pair = Databases(*(_new(servers[side], side) for side in Side))
        bank = Bank.create(folder, pair, options=OPTIONS)
        bouncers = [
            # It comes back to a server that was away at once, not after 15 s.
            stack.enter_context(
                PgBouncerProcess(programs / name, name, {"bank": pair.shared}, more="server_login_retry = 1\n")
            )
            for name in ("a", "b")
        ]
        bank.environment |= {f"BOUNCER_{one.name.upper()}": one.admin_url for one in bouncers}
        bank.expand_variables()
        with (folder / "contexts" / "bank" / "context.toml").open("a") as file:
            file.write("".join(map(declaration, bouncers)))
        run(bank, "prepare", "bank", "--skip-check")
        place = Place(bank, servers, bouncers)
        place.start_worker()
        try:
            yield place
        finally:
            for worker in place.workers:
                worker.kill()


def _new(server: Server, side: Side) -> Database:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE faults_{side}")
    return Database(side, server.url(f"faults_{side}"))


def main() -> None:
    """Run it on two servers of its own."""
    parser = argparse.ArgumentParser("bouncer_faults", description=__doc__)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--points", nargs="+", choices=ALL, default=DECISIVE)
    parser.add_argument("--all-points", action="store_true", help="every named point of a switch")
    args = parser.parse_args()
    wanted = cases(args.victims, ALL if args.all_points else args.points)
    with tempfile.TemporaryDirectory() as folder:
        faults(Path(folder), wanted, tell=lambda line: print(line, flush=True))
    print(f"{len(wanted)} cases; nothing lost, nothing twice, nothing that was never acknowledged")


if __name__ == "__main__":
    main()
