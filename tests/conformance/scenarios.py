"""What the protocol asks of a shim, one scenario a function: a shim that keeps to it passes all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from contexts.model import Side
from migrator.lockstep import phase
from migrator.sides import gate
from tests.conformance.program import PATIENCE_S, Failed, Program
from tests.lockstep.conftest import Lockstepped
from tests.migrator.driving import driver, switch
from tests.migrator.inprocess import verify
from tests.waiting import wait_until

NAME = "conformance"
PAY = "execute UPDATE bank.account SET balance = balance + 1 WHERE id = 1"
NOTE = "execute INSERT INTO bank.entry (account, amount, memo) VALUES (1, 1, 'conformance {}')"
#: Every kind of statement: collection must not depend on it.
MIXED = (
    "execute UPDATE bank.account SET owner = owner || '!' WHERE id BETWEEN 10 AND 40",
    "execute SAVEPOINT one",
    "execute DELETE FROM bank.entry WHERE account = 50",
    "execute ROLLBACK TO SAVEPOINT one",
    "execute DELETE FROM bank.entry WHERE account = 60",
    "execute UPDATE bank.account SET id = id + 100000 WHERE id = 60",
    "execute INSERT INTO bank.account VALUES (70, 'again', 1) ON CONFLICT (id) DO UPDATE SET balance = 7",
)
#: Where the application is killed, and whether the payment must be there afterwards.
KILLED = {"collected": False, "prepared": False, "decided": True}
FLIPS = 6


@dataclass
class Stage:
    """A bank that streams, with its worker, and the program under test."""

    bank: Lockstepped
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def program(self, **environment: str) -> Iterator[Program]:
        """The program, killed at the end of the block."""
        both = self.bank.both
        urls = {f"CARVEOUT_{side.upper()}_URL": f"{both[side].url}" for side in Side}
        given = {**urls, "CARVEOUT_CONTEXT": "bank", "PGAPPNAME": NAME, **self.environment, **environment}
        running = Program(self.command, given)
        try:
            yield running
        finally:
            running.kill()

    @contextmanager
    def lockstep(self) -> Iterator[None]:
        """Both sides are written during the block."""
        with driver(self.bank) as run:
            phase.enter(run)
        try:
            yield
        finally:
            if self.bank.state() == "lockstep":
                with driver(self.bank) as run:
                    phase.leave(run, "the scenario is over")

    def notes(self, side: Side, memo: object = "%") -> int:
        """How many payments of the program's a side has."""
        return self.ask(side, f"SELECT count(*) FROM bank.entry WHERE memo LIKE 'conformance {memo}'")

    def ask(self, side: Side, query: str) -> int:
        with self.bank.both[side].connect("test") as conn:
            row = conn.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            raise Failed(what)

    def must_be_equal(self) -> None:
        """Both sides, at once."""
        self.must(self.bank.rows(Side.SHARED) == self.bank.rows(Side.SERVICE), "the sides differ after the commit")
        self.must(self.bank.prepared() == 0, "a transaction is left prepared")

    def must_come(self, condition: Callable[[], bool], what: str) -> None:
        """Within the patience."""
        try:
            wait_until(condition, patience_s=PATIENCE_S)
        except AssertionError:
            raise Failed(what) from None

    def must_become_equal(self) -> None:
        """When the worker has ended what was left prepared."""
        self.must_come(lambda: self.bank.prepared() == 0, "the worker could not end what is prepared")
        self.must_come(lambda: self.bank.rows(Side.SHARED) == self.bank.rows(Side.SERVICE), "the sides differ")
        self.must(not self.bank.differences(), f"the audit found {self.bank.differences()}")


def commit(stage: Stage) -> None:
    """What is committed is on both sides when the answer comes, and the audit agrees."""
    with stage.lockstep(), stage.program() as program:
        audited = stage.bank.audited()
        program.ok("begin", PAY, NOTE.format(1), "commit")
        stage.must_be_equal()
        program.ok("begin", *MIXED, "commit")
        stage.must_be_equal()
        stage.must_come(lambda: stage.bank.audited() >= audited + 2, "the audit has not seen two transactions")
    stage.must_become_equal()


def rollback(stage: Stage) -> None:
    """What is rolled back is on no side, and the next transaction is well."""
    with stage.lockstep(), stage.program() as program:
        before = stage.bank.rows(Side.SHARED)
        program.ok("begin", PAY, "rollback")
        program.ok("begin", PAY)
        program.refused("execute SELECT 1 / 0")
        program.ok("rollback")
        stage.must(stage.bank.rows(Side.SHARED) == before, "something is left of what was rolled back")
        program.ok("begin", PAY, "commit")
        stage.must_be_equal()


def failed_commit(stage: Stage) -> None:
    """A transaction that has failed is not committed, whatever the server answers to COMMIT."""
    with stage.program() as program:
        _fail_and_commit(program)
        with stage.lockstep():
            _fail_and_commit(program)
            stage.must_be_equal()


def _fail_and_commit(program: Program) -> None:
    program.ok("begin", PAY)
    program.refused("execute SELECT 1 / 0")
    program.refused("commit")


def nothing_written(stage: Stage) -> None:
    """A transaction that writes nothing is committed without the service side."""
    with stage.lockstep(), stage.program(CARVEOUT_STOP_AT="prepared") as program:
        program.ok("begin", "execute SELECT 1", "commit")


def wrong_use(stage: Stage) -> None:
    """What cannot be done is answered with an error, and harms nothing."""
    with stage.program() as program:
        program.refused("commit")
        program.refused(PAY)
        program.ok("begin", "rollback")


def single(stage: Stage) -> None:
    """Outside of lockstep only the shared side is written, and the stream carries it."""
    with stage.program(CARVEOUT_STOP_AT="prepared") as program:
        program.ok("begin", PAY, NOTE.format(2), "commit")
    stage.must_become_equal()


def gate_closed(stage: Stage) -> None:
    """While the gate is closed no transaction begins; once it opens, the one that waited goes on."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'carveout.gate_bank'::regclass"
    with stage.program() as program:
        with gate.closed_gate(stage.bank.both.shared, "bank", lock_timeout_ms=5000, deadline=0):
            program.send("begin")
            stage.must_come(lambda: program.has_answered() or stage.ask(Side.SHARED, waiting) == 1, "it did not begin")
            stage.must(not program.has_answered(), "it has begun a transaction while the gate was closed")
        stage.must(program.answer() == "ok", "it was not let in after the gate had opened")
        program.ok(PAY, "commit")


def gate_held(stage: Stage) -> None:
    """An open transaction holds the gate, so that a switch waits for it."""
    held = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted AND"
        f" relation = 'carveout.gate_bank'::regclass AND application_name = '{NAME}'"
    )
    with stage.program() as program:
        program.ok("begin", PAY)
        stage.must(stage.ask(Side.SHARED, held) == 1, "it does not hold the gate")
        program.ok("commit")
        stage.must(stage.ask(Side.SHARED, held) == 0, "it still holds the gate after its commit")


def flips(stage: Stage) -> None:
    """Lockstep is entered and left while it writes: every answer is ok, and both sides have every payment."""
    stop = threading.Event()
    before, failures, done = stage.notes(Side.SHARED), [], [0]
    with stage.program() as program:

        def write() -> None:
            try:
                while not stop.is_set():
                    program.ok("begin", PAY, NOTE.format(done[0]), "commit")
                    done[0] += 1
            except Failed as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(FLIPS):
                goal = done[0] + 20

                def has_gone_on(goal: int = goal) -> bool:
                    return bool(failures) or done[0] >= goal

                stage.must_come(has_gone_on, "it does not go on")
                _flip(stage)
        finally:
            stop.set()
            writer.join()
            if stage.bank.state() == "lockstep":
                _flip(stage)
    if failures:
        raise failures[0]
    stage.must_become_equal()
    stage.must(stage.notes(Side.SERVICE) - before == done[0], "an acknowledged payment is missing, or there twice")


def _flip(stage: Stage) -> None:
    with driver(stage.bank) as run:
        phase.enter(run) if stage.bank.state() == "streaming" else phase.leave(run, "a flip")


def killed(stage: Stage) -> None:
    """Killed between any two steps of its commit, it leaves the payment on both sides or on none."""
    with stage.lockstep():
        for point, is_there in KILLED.items():
            before = stage.notes(Side.SHARED)
            with stage.program(CARVEOUT_STOP_AT=point) as program:
                program.ok("begin", PAY, NOTE.format(point))
                program.send("commit")
                program.stops_at(point)
                _must_stand(stage, point)
            stage.must_become_equal()
            stage.must(stage.notes(Side.SHARED) - before == is_there, f"killed at {point!r}: the payment is wrong")


def _must_stand(stage: Stage, point: str) -> None:
    """It is where it says it is; what is decided, the worker may have ended by now."""
    if point != "decided":
        expected = 0 if point == "collected" else 1
        stage.must(stage.bank.prepared() == expected, f"at {point!r}: {stage.bank.prepared()} prepared, not {expected}")
    decided = stage.notes(Side.SHARED, point)
    stage.must(decided == (point == "decided"), f"at {point!r}: the shared side has {decided} of 1 payments")
    there = stage.notes(Side.SERVICE, point)
    stage.must(point == "decided" or there == 0, f"at {point!r}: the service side shows the payment already")


def no_answer(stage: Stage) -> None:
    """The shared side breaks off the connection before the commit: an error, and the worker decides."""
    with stage.lockstep(), stage.program(CARVEOUT_STOP_AT="prepared") as program:
        before = stage.bank.rows(Side.SHARED)
        program.ok("begin", PAY)
        program.send("commit")
        program.stops_at("prepared")
        _terminate(stage)
        program.send("go")
        program.is_refused("commit")
        stage.must_become_equal()
        stage.must(stage.bank.rows(Side.SHARED) == before, "a payment is there that was not committed")
        program.ok("begin", PAY)


def _terminate(stage: Stage) -> None:
    with stage.bank.both.shared.connect("test") as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (NAME,)
        )


NOT_YET = """
CREATE FUNCTION public.not_yet() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not yet' USING ERRCODE = 'object_not_in_prerequisite_state'; END $$;
CREATE SEQUENCE public.tried;
CREATE TRIGGER not_yet BEFORE INSERT ON carveout.lockstep_ledger FOR EACH ROW
    WHEN (nextval('public.tried') > 0) EXECUTE FUNCTION public.not_yet();
ALTER TABLE carveout.lockstep_ledger ENABLE ALWAYS TRIGGER not_yet;
GRANT USAGE ON SEQUENCE public.tried TO PUBLIC
"""


def not_yet(stage: Stage) -> None:
    """SQLSTATE 55000 of the service side means "not yet": it tries again until that is over."""
    with stage.lockstep(), stage.bank.both.service.connect("test") as conn, stage.program() as program:
        conn.execute(NOT_YET)
        try:
            program.ok("begin", PAY)
            program.send("commit")
            tries = partial(stage.ask, Side.SERVICE, "SELECT last_value FROM public.tried")
            stage.must_come(lambda: program.has_answered() or tries() > 2, "it has not tried again")
            stage.must(not program.has_answered(), "it has given up")
        finally:
            conn.execute("DROP FUNCTION public.not_yet() CASCADE")
            conn.execute("DROP SEQUENCE public.tried")
        stage.must(program.answer() == "ok", "it was not committed when the service side was ready")
        stage.must_be_equal()


def service_refuses(stage: Stage) -> None:
    """What the service side cannot take is on no side."""
    check = "ALTER TABLE bank.account ADD CONSTRAINT odd CHECK (balance <> 4711) NOT VALID"
    with stage.lockstep(), stage.bank.both.service.connect("test") as conn, stage.program() as program:
        conn.execute(check.encode())
        try:
            before = stage.bank.rows(Side.SHARED)
            program.ok("begin", "execute UPDATE bank.account SET balance = 4711 WHERE id = 2")
            program.refused("commit")
            stage.must(stage.bank.rows(Side.SHARED) == before, "the shared side has committed it all the same")
            program.ok("begin", PAY, "commit")
            stage.must_be_equal()
        finally:
            conn.execute("ALTER TABLE bank.account DROP CONSTRAINT odd")


def other_side(stage: Stage) -> None:
    """After a cutover it goes to the service side, also where it began before; after a rollback it comes back."""
    with stage.program() as program:
        program.ok("begin", PAY, "commit")
        for side in (Side.SERVICE, Side.SHARED):
            verify(stage.bank)
            switch(stage.bank, side)
            before = stage.notes(side)
            program.ok("begin", NOTE.format(side), "commit")
            stage.must(stage.notes(side) == before + 1, f"the payment is not on the {side} side, which is open")
    stage.must_become_equal()


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        commit, rollback, failed_commit, nothing_written, wrong_use, single, gate_closed, gate_held, flips, killed,
        no_answer, not_yet, service_refuses, other_side,
    )
}  # fmt: skip
