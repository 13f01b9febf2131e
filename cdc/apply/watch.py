"""Shows observers every change of the tables that they watch, with the row as it was, before it is written.

An update carries no old row under the usual replica identity, so the row that the closed side holds at that moment is
read by its key: one question per table and chunk, not one per change. What changed before it in the same chunk is
followed in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg

from cdc.apply import statements
from cdc.apply.compact import whole
from cdc.apply.plan import Key, Plan, filled
from cdc.apply.plans import Plans
from cdc.events import ABSENT, UNCHANGED, Change, Delete, Insert, Message, Relation, Row, Transaction, Truncate, Update
from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import TableName

_SQL = sqlfiles.load("cdc.apply", "watch.sql")


@dataclass(slots=True, eq=False)
class Passing:
    """A transaction that passes."""

    xid: int
    commit_lsn: int
    #: Microseconds since the Unix epoch, by the source's clock.
    commit_time_us: int
    #: Whether all its changes have been shown.
    ended: bool = False
    #: Whether its rows are there already: its application has written both sides.
    is_there: bool = False


@dataclass(slots=True)
class Passed:
    """One change of a watched table. A row that is not there is None; in a TRUNCATE both are."""

    passing: Passing
    #: The change's place in its transaction, from 1.
    ordinal: int
    #: The declared table: of a partition its root.
    table: TableName
    plan: Plan
    operation: str
    #: An image that holds the row's key, the new one where it changed; None in a TRUNCATE.
    named: Row | None
    old: Row | None
    new: Row | None


@dataclass(frozen=True, slots=True)
class Interest:
    """The columns of a table that an observer must know."""

    #: As they were before a change.
    old: frozenset[str] = frozenset()
    #: As they are after it, even where the stream says only that they did not change.
    new: frozenset[str] = frozenset()
    #: All columns, before and after.
    whole: bool = False


class Observer(Protocol):
    """Looks at what passes; whatever it raises ends the applier with its batch rolled back."""

    def opened(self, conn: Connection, *, in_lockstep: bool) -> None:
        """The applier has begun; ``conn`` is its session, committed after this.

        :param in_lockstep: applications have written to the closed side what the stream is still to show.
        """

    def interest(self, table: TableName) -> Interest | None:
        """What is watched of a declared table; None: nothing."""

    def see(self, passed: Passed) -> None:
        """One change, in the order of the stream."""

    def before_write(self, conn: Connection) -> None:
        """All that was shown is written next, in the open target transaction; it may be called with nothing shown."""

    def before_commit(self, conn: Connection) -> None:
        """The batch's rows are written; what is written here commits with them."""

    def committed(self) -> None:
        """The batch is committed."""

    def close(self) -> None:
        """The applier has ended; may be called again."""


@dataclass(frozen=True, slots=True)
class _Watched:
    table: TableName
    plan: Plan
    observers: tuple[Observer, ...]
    #: Places that are read before each update and delete.
    old: frozenset[int]
    #: Places that are read where the stream leaves them out.
    new: frozenset[int]


@dataclass(slots=True)
class _Pending:
    passing: Passing
    ordinal: int
    watched: _Watched
    change: Insert | Update | Delete | Truncate


class Watch:
    """Between the collector and the observers."""

    def __init__(self, conn: Connection, plans: Plans, observers: Sequence[Observer]) -> None:
        self._conn = conn
        self._cursor = psycopg.RawCursor(conn)
        self._plans = plans
        self._observers = observers
        self._by_relation: dict[Relation, _Watched | None] = {}
        self._pending: list[_Pending] = []
        #: What is on the closed side already, with the name of its transaction.
        self._audited: list[tuple[str, _Pending]] = []
        self._passing = Passing(0, 0, 0)
        self._ordinal = 0

    def opened(self, *, in_lockstep: bool) -> None:
        """The applier has begun."""
        for observer in self._observers:
            observer.opened(self._conn, in_lockstep=in_lockstep)

    def begin(self, transaction: Transaction) -> None:
        """The changes that follow belong to ``transaction``."""
        self._passing = Passing(transaction.xid, transaction.commit_lsn, transaction.commit_time_us)
        self._ordinal = 0

    def end(self) -> None:
        """The transaction is whole."""
        self._passing.ended = True

    def shown(self, changes: Iterable[Change]) -> Iterator[Change]:
        """The changes as they are; each is noted when its receiver has taken it in and asks for the next one."""
        for change in changes:
            yield change
            self.note(change)

    def note(self, change: Change) -> None:
        """One change; where it is no message it is shown before the next write."""
        self._pending += self._noted(change)

    def note_audited(self, name: str, change: Change) -> None:
        """One change that an application has written to both sides: it is shown by :meth:`show_audited`.

        :param name: of its transaction.
        """
        self._passing.is_there = True
        self._audited += [(name, one) for one in self._noted(change)]

    def watches(self, relation: Relation) -> bool:
        """Whether somebody looks at its changes."""
        if relation not in self._by_relation:
            self._by_relation[relation] = self._watched(relation)
        return self._by_relation[relation] is not None

    def before_write(self) -> None:
        """Show what was noted."""
        pending, self._pending = self._pending, []
        known = self._read(pending)
        for one in pending:
            for passed in _passed(one, known[one.watched.plan]):
                for observer in one.watched.observers:
                    observer.see(passed)
        for observer in self._observers:
            observer.before_write(self._conn)

    def show_audited(self, before: Callable[[str, Relation, Row], Row | None]) -> None:
        """Show what applications have written to both sides.

        :param before: the row with the key of an image, as it was before the named transaction.
        """
        audited, self._audited = self._audited, []
        known: dict[tuple[str, Plan], dict[Key, Row]] = defaultdict(dict)
        asked: set[tuple[str, Plan, Key]] = set()
        for name, one in audited:
            plan, rows = one.watched.plan, known[name, one.watched.plan]
            key = _asked(one)
            if key is not None and key not in rows and (name, plan, key) not in asked:
                asked.add((name, plan, key))
                assert isinstance(one.change, (Update, Delete))  # others are not asked for
                if (row := before(name, plan.relation, _named(one.change))) is not None:
                    rows[key] = row
            for passed in _passed(one, rows):
                for observer in one.watched.observers:
                    observer.see(passed)
        for observer in self._observers:
            observer.before_write(self._conn)

    def before_commit(self) -> None:
        """The batch is written."""
        for observer in self._observers:
            observer.before_commit(self._conn)

    def committed(self) -> None:
        """The batch is committed."""
        for observer in self._observers:
            observer.committed()

    def close(self) -> None:
        """The applier has ended."""
        for observer in self._observers:
            observer.close()

    def _noted(self, change: Change) -> Iterator[_Pending]:
        if isinstance(change, Message):
            return
        self._ordinal += 1
        relations = change.relations if isinstance(change, Truncate) else (change.relation,)
        for relation in relations:
            if self.watches(relation) and (watched := self._by_relation[relation]) is not None:
                yield _Pending(self._passing, self._ordinal, watched, change)

    def _watched(self, relation: Relation) -> _Watched | None:
        found = self._cursor.execute(_SQL["root"], tuple(relation.table)).fetchone()
        table = TableName(*found) if found else relation.table
        interests = [(one, interest) for one in self._observers if (interest := one.interest(table)) is not None]
        if not interests:
            return None
        plan = self._plans.of(relation)
        every = frozenset(column.name for column in relation.columns)
        old, new = (
            frozenset(place for place, column in enumerate(relation.columns) if column.name in names)
            for names in (
                frozenset().union(*(every if interest.whole else interest.old for _, interest in interests)),
                frozenset().union(*(every if interest.whole else interest.new for _, interest in interests)),
            )
        )
        return _Watched(table, plan, tuple(one for one, _ in interests), old, new)

    def _read(self, pending: Sequence[_Pending]) -> dict[Plan, dict[Key, Row]]:
        """The rows that are there now, of all keys whose former row is asked for."""
        wanted: dict[Plan, dict[Key, None]] = defaultdict(dict)
        places: dict[Plan, frozenset[int]] = {}
        for one in pending:
            if (key := _asked(one)) is not None:
                plan = one.watched.plan
                wanted[plan][key] = None
                places[plan] = one.watched.old | one.watched.new
        known: dict[Plan, dict[Key, Row]] = defaultdict(dict)
        for plan, keys in wanted.items():
            known[plan] = self._rows(plan, list(keys), sorted(places[plan] | set(plan.key)))
        return known

    def _rows(self, plan: Plan, keys: Sequence[Key], places: Sequence[int]) -> dict[Key, Row]:
        columns = zip(*(plan.key_values(key) for key in keys), strict=True)
        texts = [[value.decode() for value in column if isinstance(value, bytes)] for column in columns]
        result = self._cursor.execute(statements.current(plan, tuple(places)), texts).pgresult
        assert result is not None
        found: dict[Key, Row] = {}
        for number in range(result.ntuples):
            row: Row = [ABSENT] * len(plan.relation.columns)
            for column, place in enumerate(places):
                row[place] = result.get_value(number, column)
            found[plan.key_of(row)] = row
        return found


def _asked(one: _Pending) -> Key | None:
    """The key whose row must be read, where the stream does not say enough of it."""
    change, watched = one.change, one.watched
    if not isinstance(change, (Update, Delete)) or change.old_is_full or not watched.plan.is_keyed:
        return None
    holes = isinstance(change, Update) and any(change.new[place] is UNCHANGED for place in watched.new)
    return watched.plan.key_of(_named(change)) if watched.old or holes else None


def _named(change: Update | Delete) -> Row:
    """The image that holds the key under which the row is there."""
    if isinstance(change, Delete) or change.old is not None:
        assert change.old is not None
        return change.old
    return change.new


def _passed(one: _Pending, known: dict[Key, Row]) -> Iterator[Passed]:
    """The change with its rows; ``known`` follows it."""
    change, watched = one.change, one.watched
    plan, facts = watched.plan, (one.passing, one.ordinal, watched.table, watched.plan)
    match change:
        case Truncate():
            known.clear()
            yield Passed(*facts, "truncate", None, None, None)
        case Insert(new=new):
            if plan.is_keyed:
                known[plan.key_of(new)] = new
            yield Passed(*facts, "insert", new, None, new)
        case Update(old_is_full=full):
            key = plan.key_of(_named(change))
            old = change.old if full else known.pop(key, None)
            new = whole(plan, change)
            if old is not None:
                new = filled(new, old, UNCHANGED)
            if plan.is_keyed:
                known.pop(key, None)
                known[plan.key_of(new)] = new
            yield Passed(*facts, "update", new, old, new)
        case Delete(old_is_full=full):
            old = known.pop(plan.key_of(change.old), None)
            yield Passed(*facts, "delete", change.old, change.old if full else old, None)
