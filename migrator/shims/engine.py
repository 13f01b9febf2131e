"""The gate for SQLAlchemy: one engine whose transactions are always on the open side.

Every transaction passes the gate when SQLAlchemy begins it, as its first statement; on the wrong side its connection
is exchanged for one to the other side. So a :class:`~sqlalchemy.orm.Session` and ``engine.begin()`` need no change.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, exc

from contexts.errors import RefusedError
from contexts.model import Side
from migrator.shims.gate import GateClosed, Gatekeeper, Mode
from migrator.shims.lockstep import Lockstep

_SIDE = "carveout_side"
MODE = "carveout_mode"
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+psycopg(?:_async)?://")


class NotGated(RefusedError):
    """A transaction that cannot pass the gate: no statement of it was run."""


def gated_engine(
    context: str,
    urls: Mapping[Side, str],
    *,
    wait_limit_s: float = 10.0,
    first: Side = Side.SHARED,
    **options: Any,
) -> Engine:
    """An engine for the tables of a context, before, during and after its migration.

    :param urls: a libpq URL or conninfo per side; ``postgresql+psycopg://`` is understood too.
    :param wait_limit_s: how long a new transaction waits while a switch runs, then :class:`GateClosed` is raised.
    :param first: the side that a new process asks first; the other one works too, with one more round trip.
    :param options: passed on to :func:`sqlalchemy.create_engine`.
    """
    plain = {side: libpq_url(urls[side]) for side in Side}
    lockstep = Lockstep(context, lambda: psycopg.connect(plain[Side.SERVICE]), wait_limit_s=wait_limit_s)
    passing = Passing(Gatekeeper(context, wait_limit_s, first), plain, lockstep)
    engine = create_engine("postgresql+psycopg://", **options)
    passing.listen(engine)
    return engine


def libpq_url(url: str) -> str:
    """A URL of SQLAlchemy's as libpq understands it; others stay as they are."""
    return _DRIVER.sub(r"\1://", url)


class Passing:
    """The listeners of one engine."""

    def __init__(self, gate: Gatekeeper, urls: Mapping[Side, str], lockstep: Lockstep) -> None:
        self._gate = gate
        self._urls = urls
        self._lockstep = lockstep

    def listen(self, engine: Engine) -> None:
        """Take part in everything that the engine begins."""
        event.listen(engine, "do_connect", self.connect)
        event.listen(engine, "begin", self.begin)
        event.listen(engine, "begin_twophase", self.begin_twophase)
        event.listen(engine, "commit", self.commit)

    def connect(self, dialect: Any, record: Any, _args: list[Any], parameters: dict[str, Any]) -> Any:
        """Connect to the side that is believed to be open, and note which one it is."""
        side = self._gate.believed
        record.info[_SIDE] = side
        return self.open(dialect, self._urls[side], parameters)

    def open(self, _dialect: Any, url: str, parameters: dict[str, Any]) -> Any:
        """A DBAPI connection."""
        return psycopg.connect(url, **parameters)

    def cursor(self, raw: Any) -> Any:
        """A cursor of the driver's own, with several results."""
        return raw.cursor()

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""
        time.sleep(seconds)

    def begin(self, connection: Connection) -> None:
        """Pass the gate with the transaction that begins.

        :raises GateClosed: the wait limit is over.
        :raises sqlalchemy.exc.OperationalError: a server cannot be reached.
        """
        try:
            for _ in self._gate.attempts(self.pause):
                # The pool may still hold connections to the other side: each is met here once, and closed.
                while connection.info[_SIDE] is not self._gate.believed:
                    _exchange(connection)
                if self._enter(connection):
                    return
        except psycopg.OperationalError as error:
            raise exc.OperationalError("pass the gate", None, error) from error

    def commit(self, connection: Connection) -> None:
        """In lockstep, commit both sides; SQLAlchemy's own commit, which comes next, then finds nothing to do.

        :raises sqlalchemy.exc.DBAPIError: a server refused; nothing is on either side.
        :raises LockstepRefused: the service side did not take it; nothing is on either side.
        """
        if connection.info.get(MODE) is not Mode.LOCKSTEP:
            return
        raw: Any = connection.connection.dbapi_connection
        prepared = None
        try:
            prepared = self._lockstep.ship(raw)
            raw.commit()
        except psycopg.Error as error:
            if prepared:
                self._lockstep.undo(prepared, error)
            raise exc.DBAPIError.instance("commit both sides", None, error, psycopg.Error) from error
        if prepared:
            self._lockstep.settle(prepared)

    def begin_twophase(self, _connection: Connection, _xid: Any) -> None:
        """Refuse: ``PREPARE TRANSACTION`` outlives its session, and would stop every switch."""
        raise self.refused("two-phase transactions do not pass it", "use a transaction of one phase")

    def _enter(self, connection: Connection) -> bool:
        """Whether the transaction is on the open side."""
        raw: Any = connection.connection.dbapi_connection
        if raw.autocommit:
            raise self.refused("in AUTOCOMMIT no statement would hold it", "use another isolation level")
        try:
            if mode := self._gate.enter(self.cursor(raw), connection.info[_SIDE]):
                connection.info[MODE] = mode
                return True
        except psycopg.OperationalError:
            if not raw.closed:
                raise
            _exchange(connection)  # it broke while it was idle; nothing was begun yet, so another one may try
            return False
        except GateClosed:
            raw.rollback()
            raise
        raw.rollback()
        return False

    def refused(self, why: str, instead: str) -> NotGated:
        """The error of a transaction that cannot pass."""
        return NotGated(
            f"context {self._gate.context!r} has a gate: {why}", unchanged="nothing was written", next_step=instead
        )


def _exchange(connection: Connection) -> None:
    """Take another connection from the pool, with the same isolation level; the old one is closed."""
    connection.invalidate()
    if options := connection.get_execution_options():
        connection.execution_options(**options)
