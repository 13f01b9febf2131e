"""Shadow reads: a sample of the application's SELECTs is run on both sides, in the background, and compared.

What the application read is not touched and not waited for. A statement is run on the service side, the shared side and
the service side again. A difference counts only where the service side was the same before and after and nothing was
prepared there: a transaction that is committed on the one side and not yet on the other is no difference.
"""

from __future__ import annotations

import logging
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import Engine, event

from contexts.names import Side

#: So often a statement is run again before what it showed is called a difference.
ATTEMPTS = 6
FLUSH_S = 2.0
_READS = re.compile(r"^\s*(select|with|table|values)\b", re.IGNORECASE)
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
_LIMITED = re.compile(r"\b(limit|fetch\s+(first|next))\b", re.IGNORECASE)
_LOCKS = re.compile(r"\bfor\s+(no\s+key\s+)?(update|share|key\s+share)\b", re.IGNORECASE)
_VALUES = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_log = logging.getLogger(__name__)
Connect = Callable[[], "psycopg.Connection[Any]"]


@dataclass
class Tally:
    """What became of one statement's runs; no values, only the statement's text."""

    runs: int = 0
    differences: int = 0
    errors: int = 0
    #: The sides changed under every attempt.
    undecided: int = 0
    shared_ms: float = 0.0
    service_ms: float = 0.0


@dataclass
class Shadow:
    """Samples the SELECTs of engines and compares them.

    :param connect: opens a connection per side.
    :param sample: share of the statements, 0 to 1.
    :param limit_s: time limit of one statement on one side.
    :param known: statements in which one of these patterns is found are expected to differ, and left out.
    :param waiting: how many statements may wait; beyond that they are left out, never waited for.
    """

    context: str
    connect: Mapping[Side, Connect]
    sample: float = 0.01
    limit_s: float = 5.0
    known: Sequence[str] = ()
    waiting: int = 100
    tallies: dict[str, Tally] = field(default_factory=dict)
    left_out: int = 0

    def __post_init__(self) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(self.waiting)
        self._stop = threading.Event()
        self._flushed = time.monotonic()
        self._unsaved: dict[str, Tally] = {}
        self._connections: dict[Side, psycopg.Connection[Any]] = {}
        self._thread = threading.Thread(target=self._run, name=f"shadow-{self.context}", daemon=True)
        self._thread.start()

    def attach(self, engine: Engine) -> None:
        """Sample the statements of an engine, of the ORM and Core alike."""
        event.listen(engine, "after_cursor_execute", self._executed)

    def close(self) -> None:
        """Compare what waits, save, and end."""
        self._queue.join()
        self._stop.set()
        self._thread.join()

    def _executed(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
    ) -> None:
        if executemany or random.random() >= self.sample or not self._is_comparable(statement):
            return
        try:
            self._queue.put_nowait((statement, parameters))
        except queue.Full:
            self.left_out += 1

    def _is_comparable(self, statement: str) -> bool:
        if not _READS.match(statement) or _LOCKS.search(statement):
            return False
        if _LIMITED.search(statement) and not _ORDERED.search(statement):
            return False  # which rows come is not said
        return not any(re.search(pattern, statement) for pattern in self.known)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                statement, parameters = self._queue.get(timeout=0.2)
            except queue.Empty:
                self._flush()
                continue
            try:
                self._note(statement, self._compare(statement, parameters))
            except Exception as error:  # a shadow never disturbs: neither the application nor the next statement
                _log.warning("context %s: a shadow read failed: %s", self.context, type(error).__name__)
                self._note(statement, Tally(runs=1, errors=1))
                self._disconnect()
            finally:
                self._queue.task_done()
        self._flush(now=True)
        self._disconnect()

    def _compare(self, statement: str, parameters: Any) -> Tally:
        tally = Tally(runs=1)
        for _ in range(ATTEMPTS):
            before, tally.service_ms = self._read(Side.SERVICE, statement, parameters)
            ours, tally.shared_ms = self._read(Side.SHARED, statement, parameters)
            if ours == before:
                return tally
            in_between = self._is_anything_prepared()
            after, _ = self._read(Side.SERVICE, statement, parameters)
            if ours == after:
                return tally
            if before == after and not in_between:
                tally.differences += 1
                if tally.differences == ATTEMPTS // 2:
                    return Tally(1, 1, shared_ms=tally.shared_ms, service_ms=tally.service_ms)
        return Tally(1, undecided=1, shared_ms=tally.shared_ms, service_ms=tally.service_ms)

    def _read(self, side: Side, statement: str, parameters: Any) -> tuple[object, float]:
        began = time.monotonic()
        rows = self._connection(side).execute(statement.encode(), parameters).fetchall()
        took_ms = (time.monotonic() - began) * 1000
        texts = [tuple(map(repr, row)) for row in rows]
        return (texts if _ORDERED.search(statement) else Counter(texts)), took_ms

    def _is_anything_prepared(self) -> bool:
        row = (
            self._connection(Side.SERVICE)
            .execute(
                "SELECT EXISTS (SELECT FROM pg_prepared_xacts WHERE starts_with(gid, %s))",
                (f"carveout:{self.context}:",),
            )
            .fetchone()
        )
        return bool(row and row[0])

    def _connection(self, side: Side) -> psycopg.Connection[Any]:
        conn = self._connections.get(side)
        if conn is None or conn.closed:
            conn = self._connections[side] = self.connect[side]()
            conn.autocommit = True
            conn.execute("SET default_transaction_read_only = on")
            conn.execute(f"SET statement_timeout = {int(self.limit_s * 1000)}".encode())
        return conn

    def _disconnect(self) -> None:
        for conn in self._connections.values():
            conn.close()
        self._connections.clear()

    def _note(self, statement: str, seen: Tally) -> None:
        shown = _VALUES.sub("?", statement)
        for tallies in (self.tallies, self._unsaved):
            tally = tallies.setdefault(shown, Tally())
            for name in ("runs", "differences", "errors", "undecided", "shared_ms", "service_ms"):
                setattr(tally, name, getattr(tally, name) + getattr(seen, name))
        self._flush()

    def _flush(self, *, now: bool = False) -> None:
        """Save the tallies where ``status`` and the report read them."""
        if not self._unsaved or not (now or time.monotonic() - self._flushed > FLUSH_S):
            return
        self._flushed, unsaved, self._unsaved = time.monotonic(), self._unsaved, {}
        try:
            with self.connect[Side.SERVICE]() as conn:
                for statement, tally in unsaved.items():
                    conn.execute(
                        "SELECT carveout.shadow_noted(%s, %s, %s, %s, %s, %s, %s, %s)",
                        (self.context, statement, tally.runs, tally.differences, tally.errors, tally.undecided,
                         tally.shared_ms, tally.service_ms),
                    )  # fmt: skip
        except psycopg.Error as error:
            _log.warning("context %s: shadow reads are not saved: %s", self.context, error)
