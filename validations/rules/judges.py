"""One judge per kind of rule: rows in, a verdict out. Values are the bytes of PostgreSQL's text; no I/O.

Numbers are decimal fractions from that text, added with more digits than any of PostgreSQL's has: never floats.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import assert_never

from cdc.apply import Passed
from cdc.apply.plan import Plan
from cdc.events import Missing, Row
from contexts.errors import StreamStopped
from contexts.rules import AppendOnly, Balance, Immutable, Monotonic, Required, Rule, Transitions

#: Whether a change breaks the rule.
Judge = Callable[[Passed], bool]
# numeric has at most 131072 digits before the point and 16383 behind it.
_EXACT = Context(prec=150_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_ZERO = Decimal(0)


def judge_of(rule: Rule, plan: Plan) -> Judge:
    """The judge of single changes of one table.

    :raises StreamStopped: the stream does not carry a column of the rule.
    """
    match rule:
        case Balance():  # judged at the end of the transaction
            return lambda _: False
        case Transitions():
            return _transitions(rule, places(rule, plan, (rule.column,))[0])
        case Required():
            return _required(rule, plan)
        case Monotonic():
            place = places(rule, plan, (rule.column,))[0]
            return _on_update(lambda old, new: _goes_down(old[place], new[place]))
        case Immutable():
            fixed = places(rule, plan, rule.columns)
            return _on_update(lambda old, new: any(old[place] != new[place] for place in fixed))
        case AppendOnly():
            return lambda passed: passed.operation != "insert"
        case _:
            assert_never(rule)


class Balances:
    """The sums of one balance rule in one transaction, by group."""

    def __init__(self, rule: Balance) -> None:
        self._rule = rule
        self._places: dict[Plan, tuple[int, ...]] = {}
        self._sums: defaultdict[tuple[bytes | None, ...], Decimal] = defaultdict(lambda: _ZERO)

    def add(self, passed: Passed) -> None:
        """Take a change in; only inserted rows count."""
        if passed.operation != "insert" or passed.new is None:
            return
        found = self._places.get(passed.plan)
        if found is None:
            found = self._places[passed.plan] = places(self._rule, passed.plan, self._rule.reads)
        amount, *group = (_said(passed, place) for place in found)
        if amount is not None:  # NULL adds nothing
            self._sums[tuple(group)] = _EXACT.add(self._sums[tuple(group)], Decimal(amount.decode()))

    def unbalanced(self) -> list[dict[str, str | None]]:
        """The groups that do not sum to zero."""
        return [
            {name: None if value is None else value.decode() for name, value in zip(self._rule.group_by, group,
                                                                                    strict=True)}
            for group, total in self._sums.items()
            if not total.is_zero()
        ]  # fmt: skip


def places(rule: Rule, plan: Plan, columns: Sequence[str]) -> tuple[int, ...]:
    """Where the columns stand in the rows.

    :raises StreamStopped: one is not in the stream.
    """
    by_name = {column.name: place for place, column in enumerate(plan.relation.columns)}
    if missing := [name for name in columns if name not in by_name]:
        raise StreamStopped(
            f"rule {rule.name}: the stream of {plan.relation.table} does not carry {', '.join(missing)}",
            unchanged="no row was written",
            next_step="correct the rule in context.toml, then start the worker again",
        )
    return tuple(by_name[name] for name in columns)


def _on_update(broken: Callable[[Row, Row], bool]) -> Judge:
    def judge(passed: Passed) -> bool:
        # An update whose row is not there is the applier's to refuse.
        return passed.operation == "update" and passed.old is not None and passed.new is not None and broken(
            passed.old, passed.new
        )  # fmt: skip

    return judge


def _transitions(rule: Transitions, place: int) -> Judge:
    allowed = {old.encode(): {new.encode() for new in after} for old, after in rule.allowed.items()}
    initial = {value.encode() for value in rule.initial}

    def judge(passed: Passed) -> bool:
        new = _said(passed, place) if passed.new else None
        if passed.operation == "insert":
            return bool(initial) and new not in initial
        if passed.operation != "update" or passed.old is None:
            return False
        old = passed.old[place]
        return old != new and (not isinstance(old, bytes) or new not in allowed.get(old, ()))

    return judge


def _required(rule: Required, plan: Plan) -> Judge:
    conditions = list(zip(places(rule, plan, tuple(rule.when)), map(str.encode, rule.when.values()), strict=True))
    needed = places(rule, plan, rule.columns)

    def judge(passed: Passed) -> bool:
        new = passed.new
        if new is None or any(_said(passed, place) != value for place, value in conditions):
            return False
        return any(new[place] is None for place in needed)

    return judge


def _said(passed: Passed, place: int) -> bytes | None:
    """A value of the new row.

    :raises StreamStopped: the source left it out.
    """
    assert passed.new is not None
    value = passed.new[place]
    if isinstance(value, Missing):
        raise StreamStopped(
            f"rules of {passed.table}: the stream leaves out column {passed.plan.name(place)} ({value!r})",
            unchanged="no row was written",
            next_step="check the replica identity of the table and the settings of the source",
        )
    return value


def _goes_down(old: object, new: object) -> bool:
    if not isinstance(old, bytes):
        return False
    if not isinstance(new, bytes):
        return True
    before, after = Decimal(old.decode()), Decimal(new.decode())
    # PostgreSQL holds NaN for greater than every number.
    return not after.is_nan() if before.is_nan() else not after.is_nan() and after < before
