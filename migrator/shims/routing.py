"""Sessions over several contexts: each statement goes to the place where its tables are open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Table, TextClause, create_engine, event
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker
from sqlalchemy.sql.visitors import iterate

from contexts.names import Side, TableName
from migrator.shims.across import Across, CutRefused, Spanning
from migrator.shims.engine import entered
from migrator.shims.link import Driver
from migrator.shims.places import Elsewhere, Moving, Place, Places, Routes

_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_PART = r'(?:"(?:[^"]|"")+"|\w+)'
#: A name where a table's name stands, and one with its schema anywhere.
_NAMES = re.compile(
    rf"\b(?:from|join|into|update|using|table)\s+(?:only\s+)?({_PART}(?:\.{_PART})?)|({_PART}\.{_PART})", re.IGNORECASE
)


class RoutedSessions(sessionmaker["RoutedSession"]):
    """Makes sessions over several contexts, as :class:`~sqlalchemy.orm.sessionmaker` does.

    :param shared: URL of the shared database.
    :param contexts: by name.
    :param across: what becomes of a transaction that has written in several places: ``refuse``, ``two-phase``, ``tcc``.
    :param wait_limit_s: how long a new transaction waits while a switch runs.
    :param options: passed on to :func:`sqlalchemy.create_engine`, once per place.
    """

    def __init__(
        self,
        shared: str,
        contexts: Mapping[str, Moving],
        *,
        across: Across | str = Across.REFUSE,
        wait_limit_s: float = 10.0,
        **options: Any,
    ) -> None:
        make = partial(create_engine, "postgresql+psycopg://", **options)
        self.places = Places(shared, contexts, wait_limit_s, make, Driver())
        super().__init__(class_=RoutedSession, places=self.places, across=Across(across))

    def dispose(self) -> None:
        """Close all connections that no session uses."""
        self.places.dispose()


class RoutedSession(Session):
    """A session whose statements go where their tables are; ``bind_arguments={"context": name}`` says it of raw SQL."""

    def __init__(self, *, places: Places, across: Across, **options: Any) -> None:
        super().__init__(**options)
        self._places = places
        self._across = across
        self._spanning: Spanning | None = None
        event.listen(self, "after_begin", _began)
        event.listen(self, "after_transaction_end", _ended)

    def get_bind(
        self, mapper: Any = None, *, clause: Any = None, bind: Any = None, context: str | None = None, **_other: Any
    ) -> Engine:
        """The engine of the place where all tables of the statement are open; its transaction is begun.

        :raises CutRefused: they are open in different places.
        :raises Elsewhere: one was switched while the transaction was under way.
        """
        if bind is not None:  # chosen by the application, or our own question for a connection
            return bind  # type: ignore[no-any-return]
        touched = {context} if context else self._contexts(mapper, clause)
        at = {name: self._place(name) for name in sorted(touched)}
        if len(set(at.values())) > 1:
            raise CutRefused(
                "a statement needs tables of different databases: "
                + ", ".join(f"{name} is {'shared' if place is None else 'moved'}" for name, place in at.items()),
                unchanged="the statement was not run",
                next_step="ask each context by itself: docs/howto/several-contexts.md",
            )
        return self._places.engines[next(iter(at.values()), None)]

    def _contexts(self, mapper: Any, clause: Any) -> set[str]:
        known = self._places.context_of
        return {known[name] for name in _tables(mapper, clause) if name in known}

    def _place(self, context: str) -> Place:
        """Where a context is open for this transaction: once it was there, it cannot be switched any more."""
        begun = self._spanning.connections if self._spanning else {}
        if context in begun:
            return context
        if None in begun or self._places.believed[context] is Side.SHARED:
            return None if self._is_shared(context) else self._at_service(context)
        try:
            return self._at_service(context)
        except Elsewhere:
            self._places.believed[context] = Side.SHARED
            if self._is_shared(context):
                return None
            raise

    def _is_shared(self, context: str) -> bool:
        told: Routes = entered(self._connection_at(None))
        self._places.believed[context] = told[context].open_side
        return told[context].open_side is Side.SHARED

    def _at_service(self, context: str) -> Place:
        self._connection_at(context)
        return context

    def _connection_at(self, place: Place) -> Connection:
        return self.connection(bind_arguments={"bind": self._places.engines[place]})


def _began(session: RoutedSession, _transaction: SessionTransaction, connection: Connection) -> None:
    """A connection has begun its transaction, or a savepoint of it."""
    engine = connection.engine
    if engine not in session._places.place_of:  # one that the application has chosen by itself
        return
    if session._spanning is None:
        session._spanning = Spanning(session._places, session._across)
    place = session._places.place_of[engine]
    if place not in session._spanning.connections:
        session._spanning.join(place, connection)


def _ended(session: RoutedSession, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session._spanning = None


def _tables(mapper: Any, clause: Any) -> Iterator[TableName]:
    """The tables of a statement, or of what a flush writes."""
    if mapper is not None:
        yield from _named(getattr(mapper, "mapper", mapper).tables)
    if isinstance(clause, TextClause):
        yield from _in_text(clause.text)
    elif clause is not None:
        yield from _named(part for part in iterate(clause) if isinstance(part, Table))


def _named(tables: Iterable[Any]) -> Iterator[TableName]:
    return (TableName(table.schema or "public", table.name) for table in tables)


def _in_text(text: str) -> Iterator[TableName]:
    for match in _NAMES.finditer(_QUOTED.sub(" ", text)):
        name = match[1] or match[2]
        yield TableName.parse(name if '"' in name else name.lower())
