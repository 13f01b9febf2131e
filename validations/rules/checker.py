"""The observer that judges what passes by the rules of a context."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence

from cdc.apply import Interest, Passed, Passing
from cdc.apply.plan import Plan
from cdc.lsn import format_lsn
from cdc.state.position import StreamId
from contexts.databases import Connection, Database
from contexts.errors import StreamStopped
from contexts.model import TableName
from contexts.rules import NEEDS_OLD, Balance, Rule
from validations.rules import judges, store
from validations.rules.judges import Balances, Judge
from validations.rules.model import Key, Violation, name_of, shown

_log = logging.getLogger(__name__)


class RuleBroken(StreamStopped):
    """A transaction broke a rule whose policy is to stop; an operator must accept it."""


class RuleChecker:
    """Judges one opened stream; see :class:`cdc.apply.Observer`."""

    def __init__(self, stream: StreamId, rules: Sequence[Rule], closed: Database) -> None:
        self._stream = stream
        self._rules = {rule.name: rule for rule in rules}
        self._closed = closed
        self._judges: dict[Plan, list[tuple[Rule, Judge]]] = {}
        self._balances: dict[tuple[Passing, str], Balances] = {}
        #: Of the open batch, in the order of the stream.
        self._found: dict[tuple[Passing, str], Violation] = {}
        self._accepted: set[tuple[int, str]] = set()

    def opened(self, conn: Connection, *, in_lockstep: bool) -> None:
        """Learn what has been accepted."""
        self._accepted = store.accepted(conn, self._stream)

    def interest(self, table: TableName) -> Interest | None:
        """The columns of the rules that are about the table."""
        about = [rule for rule in self._rules.values() if rule.table == table]
        if not about:
            return None
        old = {name for rule in about if isinstance(rule, NEEDS_OLD) for name in rule.reads}
        return Interest(frozenset(old), frozenset(name for rule in about for name in rule.reads))

    def see(self, passed: Passed) -> None:
        """Judge one change."""
        found = self._judges.get(passed.plan)
        if found is None:
            about = [rule for rule in self._rules.values() if rule.table == passed.table]
            found = self._judges[passed.plan] = [(rule, judges.judge_of(rule, passed.plan)) for rule in about]
        for rule, judge in found:
            if isinstance(rule, Balance):
                place = (passed.passing, rule.name)
                if place not in self._balances:
                    self._balances[place] = Balances(rule)
                self._balances[place].add(passed)
            elif judge(passed):
                self._violation(passed.passing, rule).add(_key(passed))

    def before_write(self, conn: Connection) -> None:
        """Close the sums of the transactions that are whole, and stop at the first one that must not pass.

        :raises RuleBroken: names it; everything before it can be applied.
        """
        for passing, name in [place for place in self._balances if place[0].ended]:
            rule = self._rules[name]
            for group in self._balances.pop((passing, name)).unbalanced():
                self._violation(passing, rule).add(group)
        stopping = [place for place, one in self._found.items() if place[0].ended and self._must_stop(one)]
        if stopping:
            first = min((passing for passing, _ in stopping), key=lambda passing: passing.commit_lsn)
            self._stop([self._found[place] for place in stopping if place[0] is first], is_there=first.is_there)

    def before_commit(self, conn: Connection) -> None:
        """Record what was found, with the rows."""
        if not self._found:
            return
        store.record(conn, self._stream, self._found.values(), applied=True)
        for one in self._found.values():
            _log.warning("context %s: %s", self._stream.context, described(one))

    def committed(self) -> None:
        """Forget the batch."""
        self._found.clear()

    def close(self) -> None:
        """Nothing is held."""

    def _violation(self, passing: Passing, rule: Rule) -> Violation:
        place = (passing, rule.name)
        if place not in self._found:
            self._found[place] = Violation(
                rule.name, rule.kind, rule.policy, rule.table, passing.xid, passing.commit_lsn,
                dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=passing.commit_time_us),
            )  # fmt: skip
        return self._found[place]

    def _must_stop(self, one: Violation) -> bool:
        return one.policy == "stop" and (one.commit_lsn, one.rule) not in self._accepted

    def _stop(self, broken: Sequence[Violation], *, is_there: bool) -> None:
        # On a session of its own: the batch is rolled back, and the operator must find what to accept.
        with self._closed.connect("rules") as conn:
            numbers = store.record(conn, self._stream, broken, applied=False)
        names = [name_of(self._closed.side, number) for number in numbers]
        context = self._stream.context
        error = RuleBroken(
            f"context {context!r}: {'; '.join(map(described, broken))}",
            unchanged="its application has written it to both sides; nothing after it will come by the stream"
            if is_there
            else "nothing of this transaction or after it was applied; what came before it was",
            next_step="; ".join(f"carveout rules accept {context} {name}" for name in names),
        )
        error.applicable_until = broken[0].commit_lsn
        raise error


def described(one: Violation) -> str:
    """The violation in a line: transaction, rule, table and the first keys."""
    keys = ", ".join(map(shown, one.keys[:3])) + (", ..." if one.count > len(one.keys[:3]) else "")
    return (
        f"transaction {one.xid} (commit {format_lsn(one.commit_lsn)}) breaks rule {one.rule} of {one.table}"
        f" {one.count} times: {keys}"
    )


def _key(passed: Passed) -> Key:
    row, plan = passed.named, passed.plan
    if row is None or not plan.is_keyed:
        return {}
    values = {plan.name(place): row[place] for place in plan.key}
    return {name: value.decode() if isinstance(value, bytes) else None for name, value in values.items()}
