"""Reads by share: a read-only transaction goes to the service side as often as the operator has said.

Only in lockstep, where both sides are equal at every commit that an application has seen; otherwise every read goes to
the open side. The share is asked for once in :data:`FRESH_S`, and leaving lockstep takes it back that long before.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.orm import Session

from contexts.names import CONTEXT_NAME, Side
from migrator.shims.engine import libpq_url
from migrator.shims.gate import FRESH_S


class Reads:
    """Read-only transactions of one context; safe between threads.

    :param urls: as for :func:`migrator.shims.engine.gated_engine`.
    :param options: passed on to :func:`sqlalchemy.create_engine`, for each side.
    """

    def __init__(self, context: str, urls: Mapping[Side, str], **options: Any) -> None:
        if not CONTEXT_NAME.fullmatch(context):
            raise ValueError(f"{context!r} is no context name")
        self._context = context
        self._engines = {side: _engine(libpq_url(urls[side]), options) for side in Side}
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._open, self._share = Side.SHARED, 0.0

    def side(self) -> Side:
        """Where the next read-only transaction goes."""
        with self._lock:
            if time.monotonic() - self._asked > FRESH_S:
                self._ask()
                self._asked = time.monotonic()
        if self._open is Side.SHARED and random.uniform(0, 100) < self._share:
            return Side.SERVICE
        return self._open

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a read-only transaction."""
        with self.engine(self.side()).connect() as connection:
            yield connection

    def session(self, **options: Any) -> Session:
        """A session whose transaction reads only; begin a new session for the next one."""
        return Session(self.engine(self.side()), **options)

    def engine(self, side: Side) -> Engine:
        """The engine of one side; its transactions are read-only."""
        return self._engines[side]

    def dispose(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()

    def _ask(self) -> None:
        """Learn the route; where the shared side does not answer, no read goes by share."""
        try:
            with self._engines[Side.SHARED].connect() as connection:
                row = connection.exec_driver_sql(
                    "SELECT open_side, mode, service_reads FROM carveout.route WHERE context = %s", (self._context,)
                ).fetchone()
        except Exception:  # also a missing schema: nothing is prepared yet
            self._share = 0.0
            return
        self._open = Side(row[0]) if row else Side.SHARED
        self._share = float(row[2]) if row and row[1] == "lockstep" else 0.0


def _engine(url: str, options: Mapping[str, Any]) -> Engine:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), **options)
    return engine.execution_options(postgresql_readonly=True)
