"""The gate for SQLAlchemy: one engine whose transactions are always on the open side.

Every transaction passes the gate when SQLAlchemy begins it, as its first statement; on the wrong side its connection
is exchanged for one to the other side. So a :class:`~sqlalchemy.orm.Session` and ``engine.begin()`` need no change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import RootTransaction, TwoPhaseTransaction
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.pool import PoolProxiedConnection

from contexts.errors import CarveoutError, RefusedError
from contexts.names import Side
from migrator.shims.gate import Gatekeeper, Mode
from migrator.shims.link import Driver, Link
from migrator.shims.lockstep import Lockstep, commit_all

_SIDE = "carveout_side"
#: What :class:`GatedConnection` takes part in.
_TAKEN = ("_begin_impl", "_commit_impl", "_begin_twophase_impl")
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
    passing = Passing(Gatekeeper(context, wait_limit_s, first), plain, wait_limit_s, Driver())
    engine = create_engine("postgresql+psycopg://", **options)
    passing.listen(engine)
    return engine


def libpq_url(url: str) -> str:
    """A URL of SQLAlchemy's as libpq understands it; others stay as they are."""
    return _DRIVER.sub(r"\1://", url)


class Gate(Protocol):
    """What a transaction passes: :class:`~migrator.shims.gate.Gatekeeper`, or several of them at one place."""

    context: str
    believed: Side

    def attempts(self, pause: Callable[[float], object]) -> Iterator[Side]:
        """The side to begin on, again after every :meth:`enter` that did not pass."""

    def idle(self) -> object | None:
        """What :meth:`enter` would say on the shared side, where it need not ask for a moment."""

    def enter(self, link: Link, side: Side) -> object | None:
        """Pass it; None: roll back, and begin again."""


class Entrance:
    """What an engine does with every transaction that passes a gate."""

    def __init__(self, gate: Gate, urls: Mapping[Side, str], driver: Driver) -> None:
        self._gate = gate
        self._urls = urls
        self._driver = driver

    def listen(self, engine: Engine) -> None:
        """Take part in everything that the engine, and engines with other options made from it, begin and commit."""
        dialect: Any = engine.dialect
        dialect.connect = partial(self.connect, dialect)
        if not all(hasattr(Connection, name) for name in _TAKEN):
            raise RuntimeError(f"this SQLAlchemy has no Connection.{', .'.join(_TAKEN)}: Carveout does not know it")
        made = type("GatedConnection", (GatedConnection,), {"entrance": self})
        options = type("GatedOptionEngine", (OptionEngine,), {"_connection_cls": made})
        engine._connection_cls, engine._option_cls = made, options
        options._option_cls = options  # type: ignore[attr-defined]

    def connect(self, dialect: Any, *_args: Any, **parameters: Any) -> Any:
        """Connect to the side that is believed to be open, and note which one it is."""
        side = self._gate.believed
        raw = self._driver.open(dialect, self._urls[side], parameters)
        self._driver.link(raw).known[_SIDE] = side
        return raw

    def begin(self, connection: Connection) -> object:
        """Pass the gate with the transaction that begins; returns what was said there.

        :raises GateClosed: the wait limit is over.
        :raises sqlalchemy.exc.OperationalError: a server cannot be reached.
        """
        pooled = connection.connection
        raw: Any = pooled.dbapi_connection
        on_shared = pooled.info.get(_SIDE) is self._gate.believed is Side.SHARED
        if on_shared and not raw.autocommit and (idle := self._gate.idle()) is not None:
            return idle
        try:
            for _ in self._gate.attempts(self._driver.pause):
                # The pool may still hold connections to the other side: each is met here once, and closed.
                while self._side(connection.connection) is not self._gate.believed:
                    _exchange(connection)
                if (entered := self._enter(connection)) is not None:
                    return entered
        except psycopg.OperationalError as error:
            raise exc.OperationalError("pass the gate", None, error) from error
        raise AssertionError("attempts end with an error only")

    def commit(self, connection: Connection) -> None:
        """Do what must be done in lockstep before the commit that follows."""

    def begin_twophase(self) -> None:
        """Refuse: ``PREPARE TRANSACTION`` outlives its session, and would stop every switch."""
        raise self.refused("two-phase transactions do not pass it", "use a transaction of one phase")

    def _side(self, pooled: PoolProxiedConnection) -> Side:
        """The side that a connection leads to; asked of the connection once, then of the pool's record of it."""
        if (side := pooled.info.get(_SIDE)) is None:
            if (side := self._driver.link(pooled.dbapi_connection).known.get(_SIDE)) is None:
                raise self.refused("this connection was made past it", "leave connecting to it: no do_connect")
            pooled.info[_SIDE] = side
        return side  # type: ignore[no-any-return]

    def _enter(self, connection: Connection) -> object | None:
        """What the gate says, or None: the transaction is not on the open side."""
        pooled = connection.connection
        raw: Any = pooled.dbapi_connection
        if raw.autocommit:
            raise self.refused("in AUTOCOMMIT no statement would hold it", "use another isolation level")
        try:
            entered = self._gate.enter(self._driver.link(raw), self._side(pooled))
        except psycopg.OperationalError:
            if not raw.closed:
                raise
            _exchange(connection)  # it broke while it was idle; nothing was begun yet, so another one may try
            return None
        except CarveoutError:
            raw.rollback()
            raise
        if entered is None:
            raw.rollback()
        return entered

    def refused(self, why: str, instead: str) -> NotGated:
        """The error of a transaction that cannot pass."""
        return NotGated(
            f"context {self._gate.context!r} has a gate: {why}", unchanged="nothing was written", next_step=instead
        )


class GatedConnection(Connection):
    """A connection that passes the gate with each transaction.

    SQLAlchemy has events for these three, as it has for connecting, but an engine or a dialect that anybody listens to
    runs through all of its events with every statement, which costs more than a gate that is not there.
    """

    entrance: Entrance
    #: What the gate said to the transaction.
    entered: object = None

    def _begin_impl(self, transaction: RootTransaction) -> None:
        self.entered = self.entrance.begin(self)
        Connection._begin_impl(self, transaction)

    def _commit_impl(self) -> None:
        if self.entered is Mode.LOCKSTEP:
            self.entrance.commit(self)
        Connection._commit_impl(self)

    def _begin_twophase_impl(self, transaction: TwoPhaseTransaction) -> None:
        self.entrance.begin_twophase()


def entered(connection: Connection) -> Any:
    """What the gate said to the transaction of a connection."""
    assert isinstance(connection, GatedConnection)
    return connection.entered


class Passing(Entrance):
    """What one context's engine does."""

    def __init__(self, gate: Gatekeeper, urls: Mapping[Side, str], wait_limit_s: float, driver: Driver) -> None:
        super().__init__(gate, urls, driver)
        connect = partial(driver.connect, urls[Side.SERVICE])
        self._lockstep = Lockstep(gate.context, connect, wait_limit_s=wait_limit_s, pause=driver.pause)

    def listen(self, engine: Engine) -> None:
        super().listen(engine)
        listened = engine._has_events
        event.listen(engine, "engine_disposed", lambda _engine: self._lockstep.close())
        engine._has_events = listened  # that one is told in any case

    def commit(self, connection: Connection) -> None:
        """In lockstep, commit both sides; SQLAlchemy's own commit, which comes next, then finds nothing to do.

        :raises sqlalchemy.exc.DBAPIError: a server refused; nothing is on either side.
        :raises LockstepRefused: the service side did not take it; nothing is on either side.
        """
        raw: Any = connection.connection.dbapi_connection
        with as_sqlalchemys("commit both sides"):
            commit_all([partial(self._lockstep.ship, self._driver.link(raw))], raw.commit)


@contextmanager
def as_sqlalchemys(what: str) -> Iterator[None]:
    """An error of the driver's becomes the one that SQLAlchemy would raise."""
    try:
        yield
    except psycopg.Error as error:
        raise exc.DBAPIError.instance(what, None, error, psycopg.Error) from error


def _exchange(connection: Connection) -> None:
    """Take another connection from the pool, with the same isolation level; the old one is closed."""
    connection.invalidate()
    if options := connection.get_execution_options():
        connection.execution_options(**options)
