"""The gate for SQLAlchemy's async engines and sessions: the same listeners, waiting in the event loop.

Needs ``carveout[asyncio]``: SQLAlchemy runs its own code in greenlets there, and so runs this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from contexts.model import Side
from migrator.shims.engine import MODE, Passing, libpq_url
from migrator.shims.gate import Gatekeeper, Mode
from migrator.shims.lockstep import Lockstep


def gated_async_engine(
    context: str,
    urls: Mapping[Side, str],
    *,
    wait_limit_s: float = 10.0,
    first: Side = Side.SHARED,
    **options: Any,
) -> AsyncEngine:
    """As :func:`migrator.shims.engine.gated_engine`, for :func:`sqlalchemy.ext.asyncio.create_async_engine`.

    While a transaction waits at the gate, the event loop goes on. In lockstep it is refused, since only the sync engine
    writes both sides.
    """
    plain = {side: libpq_url(urls[side]) for side in Side}
    lockstep = Lockstep(context, lambda: psycopg.connect(plain[Side.SERVICE]), wait_limit_s=wait_limit_s)
    engine = create_async_engine("postgresql+psycopg_async://", **options)
    _AsyncPassing(Gatekeeper(context, wait_limit_s, first), plain, lockstep).listen(engine.sync_engine)
    return engine


class _AsyncPassing(Passing):
    def open(self, dialect: Any, url: str, parameters: dict[str, Any]) -> Any:
        return dialect.loaded_dbapi.connect(url, **parameters)

    def cursor(self, raw: Any) -> Any:
        return _Cursor(raw.driver_connection)

    def pause(self, seconds: float) -> None:
        await_only(asyncio.sleep(seconds))

    def begin(self, connection: Connection) -> None:
        super().begin(connection)
        if connection.info.get(MODE) is Mode.LOCKSTEP:
            raw: Any = connection.connection.dbapi_connection
            raw.rollback()
            raise self.refused("an async engine cannot write both sides", "use the sync engine while in lockstep")


class _Cursor:
    """A cursor of psycopg's own, which knows several results; SQLAlchemy's does not."""

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._cursor = conn.cursor()

    def execute(self, operation: str) -> None:
        await_only(self._cursor.execute(operation.encode()))

    def nextset(self) -> None:
        self._cursor.nextset()

    def fetchone(self) -> Any:
        return await_only(self._cursor.fetchone())
