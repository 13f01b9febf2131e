"""The gate and lockstep for SQLAlchemy's async engines and sessions: the same listeners, waiting in the event loop.

Needs ``carveout[asyncio]``: SQLAlchemy runs its own code in greenlets there, and so runs this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from contexts.names import Side
from migrator.shims.across import Across
from migrator.shims.engine import Passing, libpq_url
from migrator.shims.gate import Gatekeeper
from migrator.shims.link import Driver, Link, PsycopgLink, Rows, begun, exchange
from migrator.shims.places import Moving, Places
from migrator.shims.routing import RoutedSession


def gated_async_engine(
    context: str,
    urls: Mapping[Side, str],
    *,
    wait_limit_s: float = 10.0,
    first: Side = Side.SHARED,
    **options: Any,
) -> AsyncEngine:
    """As :func:`migrator.shims.engine.gated_engine`, for :func:`sqlalchemy.ext.asyncio.create_async_engine`.

    While a transaction waits at the gate or for the other side, the event loop goes on.
    """
    plain = {side: libpq_url(urls[side]) for side in Side}
    engine = create_async_engine("postgresql+psycopg_async://", **options)
    Passing(Gatekeeper(context, wait_limit_s, first), plain, wait_limit_s, AsyncDriver()).listen(engine.sync_engine)
    return engine


class RoutedAsyncSessions(async_sessionmaker[AsyncSession]):
    """As :class:`migrator.shims.routing.RoutedSessions`, for :class:`~sqlalchemy.ext.asyncio.AsyncSession`."""

    def __init__(
        self,
        shared: str,
        contexts: Mapping[str, Moving],
        *,
        across: Across | str = Across.REFUSE,
        wait_limit_s: float = 10.0,
        **options: Any,
    ) -> None:
        def make() -> Engine:
            return create_async_engine("postgresql+psycopg_async://", **options).sync_engine

        self.places = Places(shared, contexts, wait_limit_s, make, AsyncDriver())
        super().__init__(sync_session_class=RoutedSession, places=self.places, across=Across(across))

    async def dispose(self) -> None:
        """Close all connections that no session uses."""
        await greenlet_spawn(self.places.dispose)


class AsyncDriver(Driver):
    """SQLAlchemy's async dialect of psycopg, inside its greenlets."""

    def open(self, dialect: Any, url: str, parameters: dict[str, Any]) -> Any:
        return dialect.loaded_dbapi.connect(url, **parameters)

    def link(self, raw: Any) -> Link:
        return AwaitedLink(raw.driver_connection)

    def connect(self, url: str) -> Link:
        return AwaitedLink(await_only(psycopg.AsyncConnection.connect(url, autocommit=True)))

    def pause(self, seconds: float) -> None:
        await_only(asyncio.sleep(seconds))


class AwaitedLink(PsycopgLink[psycopg.AsyncConnection[Any]]):
    """Over an async connection of psycopg's, inside a greenlet of SQLAlchemy's."""

    def begin(self, statements: str) -> Rows:
        return self.run(begun(self._conn) + statements)

    def run(self, statements: str, values: Sequence[str] = ()) -> Rows:
        rows: Rows = await_only(self._run(statements, values))
        return rows

    async def _run(self, statements: str, values: Sequence[str]) -> Rows:
        async with self._conn.lock:
            return await self._conn.wait(exchange(self._conn, statements, values))

    def close(self) -> None:
        # It only tells libpq and never waits: so this works outside of a greenlet, and where one is being cancelled.
        with suppress(StopIteration):
            self._conn.close().send(None)
