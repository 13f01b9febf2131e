"""Where the tables of several contexts are: the shared database, and the service database of each that was moved.

One engine per place. A transaction passes the gates of its place when it begins, and learns there what is open there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import psycopg
from sqlalchemy import Engine

from contexts.errors import CarveoutError
from contexts.names import Side, TableName
from migrator.shims.engine import Entrance, libpq_url
from migrator.shims.gate import ABSENT_S, HOPS, Gatekeeper, Mode, Route, closed, routes
from migrator.shims.link import Driver, Link, Links
from migrator.shims.lockstep import Lockstep
from migrator.shims.question import Question

#: The name of a context whose service database it is; None: the shared database.
Place = str | None
Routes = Mapping[str, Route]


class Elsewhere(CarveoutError):
    """A context was switched while the transaction was under way; nothing of the transaction is committed."""

    transient = True


@dataclass(frozen=True)
class Moving:
    """A context as an application knows it.

    :param service: URL of its service database.
    :param tables: its tables, as ``schema.table``.
    """

    service: str
    tables: Sequence[str]


class Places:
    """What all sessions of a process share; safe between threads.

    :param make: makes an engine.
    """

    def __init__(
        self,
        shared: str,
        contexts: Mapping[str, Moving],
        wait_limit_s: float,
        make: Callable[[], Engine],
        driver: Driver,
    ) -> None:
        self.driver = driver
        #: The open side of each context when a transaction last asked.
        self.believed = dict.fromkeys(contexts, Side.SHARED)
        self.context_of = {TableName.parse(table): name for name, one in contexts.items() for table in one.tables}
        urls: dict[Place, str] = {name: libpq_url(one.service) for name, one in contexts.items()}
        self.lockstep = {
            name: Lockstep(name, partial(driver.connect, urls[name]), wait_limit_s=wait_limit_s, pause=driver.pause)
            for name in contexts
        }
        urls[None] = libpq_url(shared)
        #: Connections in autocommit, for what belongs to no session's transaction.
        self.spare = {place: Links(partial(driver.connect, url)) for place, url in urls.items()}
        self.engines: dict[Place, Engine] = {}
        for place, url in urls.items():
            gate = ServiceGate(place, wait_limit_s) if place else SharedGates(list(contexts), wait_limit_s)
            self.engines[place] = engine = make()
            Entrance(gate, dict.fromkeys(Side, url), driver).listen(engine)
        self.place_of = {engine: place for place, engine in self.engines.items()}

    def dispose(self) -> None:
        """Close all connections that no session uses."""
        for engine in self.engines.values():
            engine.dispose()
        for lockstep in self.lockstep.values():
            lockstep.close()
        for links in self.spare.values():
            links.close()


class SharedGates:
    """The gates of all contexts in the shared database, passed at once: the routes are of one moment."""

    believed = Side.SHARED

    def __init__(self, contexts: Sequence[str], wait_limit_s: float) -> None:
        self.context = ", ".join(contexts)
        self._absent_until = dict.fromkeys(contexts, 0.0)
        self._unprepared = {context: Route() for context in contexts}
        self._wait_limit_s = wait_limit_s
        self._question = lru_cache(partial(Question, wait_limit_s=wait_limit_s))

    def attempts(self, _pause: Callable[[float], object]) -> Iterator[Side]:
        """Again for each gate that is found to be absent.

        :raises GateClosed: gates come and go.
        """
        for _ in range(len(self._absent_until) + HOPS):
            yield Side.SHARED
        raise closed(self.context, self._wait_limit_s, "gates came and went")

    def idle(self) -> Routes | None:
        """The routes without asking: no gate was there a moment ago."""
        return self._unprepared if time.monotonic() < min(self._absent_until.values(), default=0.0) else None

    def enter(self, link: Link, _side: Side) -> Routes | None:
        """Pass them; returns the route of each context, or None: roll back, and begin again.

        :raises GateClosed: the limit is over.
        """
        now = time.monotonic()
        present = [context for context, until in self._absent_until.items() if now >= until]
        if not present:
            return self._unprepared
        try:
            return self._unprepared | routes(self._question(tuple(present)).ask(link))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
            raise closed(self.context, self._wait_limit_s, "a switch has kept a gate closed") from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            named = re.search(r"\bgate_(\w+)", str(error))
            absent = [named[1]] if named and named[1] in present else present
            self._absent_until |= dict.fromkeys(absent, time.monotonic() + ABSENT_S)
            return None


class ServiceGate:
    """The gate of one context in its service database."""

    believed = Side.SERVICE

    def __init__(self, context: str, wait_limit_s: float) -> None:
        self.context = context
        self._wait_limit_s = wait_limit_s

    def attempts(self, _pause: Callable[[float], object]) -> Iterator[Side]:
        """Again where the connection broke while it was idle.

        :raises GateClosed: they all do.
        """
        for _ in range(HOPS):
            yield Side.SERVICE
        raise closed(self.context, self._wait_limit_s, "no connection stayed")

    def idle(self) -> None:
        """Never: it is asked each time."""

    def enter(self, link: Link, side: Side) -> Mode:
        """Pass it.

        :raises Elsewhere: the context is not open here.
        :raises GateClosed: the limit is over.
        """
        if mode := Gatekeeper(self.context, self._wait_limit_s, side).enter(link, side):
            return mode
        raise Elsewhere(
            f"context {self.context!r} is not open in its service database",
            unchanged="nothing was written",
            next_step=f"try again; where it stays so: carveout status {self.context}",
        )
