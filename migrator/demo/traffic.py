"""How the demo's services reach the open side: through the gate for the wallet, directly for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg

from contexts.model import Side
from migrator.demo.stage import Stage
from migrator.shims.direct import GatedConnections

MOVED = "wallet"
Connection = psycopg.Connection[Any]


class ServiceGate:
    """One service thread's way to the databases."""

    def __init__(self, stage: Stage, role: str) -> None:
        def connect(side: Side) -> Connection:
            return psycopg.connect(stage.url(side, role))

        self._gated = GatedConnections(MOVED, {side: partial(connect, side) for side in Side})
        self._shared = partial(connect, Side.SHARED)
        self._direct: Connection | None = None

    @contextmanager
    def transaction(self, context: str) -> Iterator[Connection]:
        """A transaction where the context is open; waits at the gate while a switch runs."""
        if context == MOVED:
            with self._gated.transaction() as conn:
                yield conn
            return
        if self._direct is None or self._direct.closed:
            self._direct = self._shared()
        with self._direct.transaction():
            yield self._direct

    def together(self, one: str, other: str) -> bool:
        """Whether one transaction can write both contexts, as of the transaction that begins next."""
        return MOVED not in (one, other) or self._gated.begin() is Side.SHARED

    def close(self) -> None:
        """Close the connections."""
        self._gated.close()
        if self._direct:
            self._direct.close()
