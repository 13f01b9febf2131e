"""The gate for SQLAlchemy: one engine whose transactions are always on the open side.

A connection passes the gate when it leaves the pool; on the wrong side the pool is emptied and connects to the
other one. So a :class:`~sqlalchemy.orm.Session` and ``engine.begin()`` need no change at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, exc

from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.shims.gate import Gatekeeper, Passage


class SideChanged(CarveoutError):
    """The open side changed between two transactions of one checked-out connection; begin again."""

    transient = True


def gated_engine(context: str, urls: Mapping[Side, str], *, wait_limit_s: float = 10.0, **options: Any) -> Engine:
    """An engine for the tables of a context, before, during and after its migration.

    :param urls: a libpq URL or conninfo per side.
    :param wait_limit_s: how long a new transaction waits while a switch runs.
    :param options: passed on to :func:`sqlalchemy.create_engine`.
    """
    gate = Gatekeeper(context, wait_limit_s)

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(urls[gate.believed])

    engine = create_engine("postgresql+psycopg://", creator=connect, **options)
    event.listen(engine, "checkout", _on_checkout(gate))
    event.listen(engine, "begin", _on_begin(gate))
    return engine


def _on_checkout(gate: Gatekeeper) -> Callable[..., None]:
    def on_checkout(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        if _enter(gate, dbapi_connection):
            record.info["carveout_entered"] = True
            return
        # The pool drops every connection that is older than this, and connects again: to the other side.
        raise exc.InvalidatePoolError()

    return on_checkout


def _on_begin(gate: Gatekeeper) -> Callable[..., None]:
    def on_begin(connection: Any) -> None:
        if connection.info.pop("carveout_entered", False):
            return  # the transaction that the checkout began
        if not _enter(gate, connection.connection.dbapi_connection):
            connection.invalidate()
            raise SideChanged(
                f"context {gate.context!r}: the {gate.believed} side is open now",
                unchanged="nothing was written",
                next_step="begin the transaction again on a new connection",
            )

    return on_begin


def _enter(gate: Gatekeeper, dbapi_connection: Any) -> bool:
    cursor = dbapi_connection.cursor()
    try:
        passage = gate.enter(cursor)
    except BaseException:
        dbapi_connection.rollback()
        raise
    finally:
        cursor.close()
    if passage is not Passage.PASSED:
        dbapi_connection.rollback()
    return passage is not Passage.MOVED
