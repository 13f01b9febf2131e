"""A live load of several services on the wallet, for the demo and the tests.

Each service is a thread with its own role and connection. Everything that was tried and acknowledged stands in a
ledger outside the databases, by which :func:`contexts.example.oracle.oracle` judges them afterwards.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import psycopg

from contexts.errors import CarveoutError
from contexts.example import oracle, services, work
from contexts.example.gate import Gate, GateMaker
from contexts.example.ledger import Ledger, Outcome
from contexts.example.transactions import Transaction
from contexts.example.work import Withdrawn

#: Share of the transactions per service thread.
_SHARES = {"payments": 0.275, "more payments": 0.275, "holds": 0.2, "cards": 0.1, "history": 0.15}
#: SQLSTATE classes with which a server ends a session: it may have committed before that.
_ENDED_SESSION = ("08", "57", "40003")


@dataclass
class Stats:
    """Counts of a running load."""

    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    #: Why transactions were not acknowledged: SQLSTATE or error class.
    reasons: Counter[str] = field(default_factory=Counter)

    def total(self, outcome: Outcome) -> int:
        """Transactions of all kinds with this outcome."""
        return sum(count for (_, what), count in self.outcomes.items() if what is outcome)


class LoadFailed(CarveoutError):
    """A service of the load failed in a way that no database causes."""


class Load:
    """Runs the services until it is stopped; a context manager starts and stops it.

    :param gates: makes the gate of each service by its role.
    :param rate: write transactions per second in all, as far as the databases keep up.
    """

    def __init__(self, gates: GateMaker, ledger: Ledger, *, rate: float = 200.0, seed: int = 0) -> None:
        self._gates, self._ledger, self._rate, self._seed = gates, ledger, rate, seed
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.stats = Stats()

    def start(self) -> None:
        """Note what is in the tables, then start all services."""
        world = services.World(self._prepare(), deque())
        for number, (name, share) in enumerate(_SHARES.items()):
            arguments = (name, share, world, random.Random(f"{self._seed}/{number}"))
            self._threads.append(threading.Thread(target=self._serve, args=arguments, name=f"load {name}", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let each service finish its transaction and end.

        :raises LoadFailed: a service failed or did not end in time.
        """
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise LoadFailed(f"{thread.name} did not end within {timeout_s:g} s")
        if self._failures:
            raise LoadFailed(f"a service of the load failed: {self._failures[0]!r}") from self._failures[0]

    def wait_for(self, acknowledged: int, timeout_s: float = 60.0) -> None:
        """Wait until this many more transactions are acknowledged.

        :raises LoadFailed: a service failed, or the time is over.
        """
        with self._changed:
            wanted = self.stats.total(Outcome.ACKNOWLEDGED) + acknowledged
            there = self._changed.wait_for(
                lambda: self._failures or self.stats.total(Outcome.ACKNOWLEDGED) >= wanted, timeout_s
            )
        if self._failures or not there:
            raise LoadFailed(f"{acknowledged} transactions in {timeout_s:g} s: {self._failures or self.stats}")

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> list[int]:
        gate = self._gates("ledger_reader")
        try:
            for context in oracle.CONTEXTS:
                with gate.transaction(context) as conn:
                    self._ledger.baseline(context, oracle.fingerprint(conn, context, ()))
            with gate.transaction("wallet") as conn:
                return work.accounts(conn)
        finally:
            gate.close()

    def _serve(self, name: str, share: float, world: services.World, rng: random.Random) -> None:
        service, gate = self._service(name, world, rng)
        pace = _Pace(self._rate * share, self._stop)
        try:
            while pace.wait():
                service.step()
        except BaseException as error:
            with self._changed:
                self._failures.append(error)
                self._changed.notify_all()
        finally:
            gate.close()

    def _service(self, name: str, world: services.World, rng: random.Random) -> tuple[services.Service, Gate]:
        def run(transaction: Transaction, *, withdraw: bool = False) -> Outcome:
            return self._run(gate, transaction, withdraw=withdraw)

        service: services.Service
        match name:
            case "holds":
                service = services.Holds(run, world, rng)
            case "cards":
                service = services.Cards(run, world, rng)
            case "history":
                service = services.History(run, world, rng)
            case _:
                service = services.Payments(run, world, rng, lambda: gate.together("wallet", "history"))
        gate = self._gates(service.role)
        return service, gate

    def _run(self, gate: Gate, transaction: Transaction, *, withdraw: bool) -> Outcome:
        """One transaction with its two lines in the ledger."""
        self._ledger.attempt(transaction)
        outcome, reason = attempt(gate, transaction, withdraw=withdraw)
        self._ledger.outcome(transaction, outcome, reason)
        with self._changed:
            self.stats.outcomes[type(transaction).__name__, outcome] += 1
            if reason:
                self.stats.reasons[reason] += 1
            self._changed.notify_all()
        if outcome is not Outcome.ACKNOWLEDGED:
            # A side that is down or closed answers at once: do not burn the processor on it.
            self._stop.wait(0.01)
        return outcome


def attempt(gate: Gate, transaction: Transaction, *, withdraw: bool = False) -> tuple[Outcome, str]:
    """Run a transaction; what became of it, and the SQLSTATE or error class where it was not acknowledged."""
    written = False
    try:
        with gate.transaction(transaction.context) as conn:
            work.do(conn, transaction)
            if withdraw:
                raise Withdrawn("on purpose")
            written = True
    except Exception as raised:
        error = getattr(raised, "orig", None) or raised  # a gate of SQLAlchemy's wraps the driver's errors
        if not isinstance(error, (psycopg.Error, CarveoutError, OSError, Withdrawn)):
            raise
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        refused = state is not None and not state.startswith(_ENDED_SESSION)
        # Before the commit was sent nothing can have happened; after that only the server's own refusal says so.
        outcome = Outcome.REJECTED if refused or not written else Outcome.UNKNOWN
        return outcome, state or type(error).__name__
    return Outcome.ACKNOWLEDGED, ""


class _Pace:
    """Keeps a rate without making up for long waits in one burst."""

    def __init__(self, rate: float, stop: threading.Event) -> None:
        self._period = 1.0 / rate
        self._stop = stop
        self._next = time.monotonic()

    def wait(self) -> bool:
        """Wait for the next turn; false once the load is to stop."""
        now = time.monotonic()
        self._next = max(self._next + self._period, now - 1.0)
        return not self._stop.wait(max(0.0, self._next - now))
