"""What the databases may hold after a load: its ledger, replayed without any database.

The state of one entity (a ledger transaction, a hold, a point, ...) is the sorted rows that belong to it, so a lost
row, a doubled one and a changed one are all simply another state. A transaction of unknown outcome leaves two
possible states.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from contexts.example.ledger import Entry, Outcome
from contexts.example.transactions import (
    CURRENCY,
    CaptureHold,
    EditMemo,
    Expire,
    FreeHold,
    LatePoint,
    OpenHold,
    Payment,
    Points,
    Register,
    RemoveCard,
    SetCardStatus,
    Settle,
    Transaction,
)

Value = str | int | None
State = tuple[tuple[Value, ...], ...]
#: Table and key.
Entity = tuple[str, str]
#: The state after a transaction, from the state before it.
Change = Callable[[State], State]
ENTRIES, HOLDS, POINTS = "wallet.ledger_entries", "wallet.holds", "history.points"
SETTLEMENTS, CARDS = "history.settlements", "card.registrations"


@dataclass
class Doubt:
    """A transaction of unknown outcome: what each of its entities was before and may be after."""

    entry: Entry
    before: dict[Entity, frozenset[State]] = field(default_factory=dict)
    after: dict[Entity, frozenset[State]] = field(default_factory=dict)


@dataclass
class Expected:
    """All that a ledger says about the databases."""

    #: The states that each entity of the load may be in.
    states: dict[Entity, frozenset[State]]
    doubts: list[Doubt]
    #: Entities that acknowledged, and that rejected transactions wrote.
    acknowledged: dict[Entity, list[Entry]]
    rejected: dict[Entity, list[Entry]]


def replay(entries: list[Entry]) -> Expected:
    """Follow the ledger's transactions in the order in which they began."""
    nothing: frozenset[State] = frozenset({()})
    found = Expected({}, [], defaultdict(list), defaultdict(list))
    for entry in entries:
        doubt = Doubt(entry)
        for entity, change in changes(entry.transaction):
            before = found.states.setdefault(entity, nothing)
            after = frozenset(map(change, before))
            match entry.outcome:
                case Outcome.ACKNOWLEDGED:
                    found.acknowledged[entity].append(entry)
                    found.states[entity] = after
                case Outcome.REJECTED:
                    found.rejected[entity].append(entry)
                case Outcome.UNKNOWN:
                    doubt.before[entity], doubt.after[entity] = before, after
                    found.states[entity] = before | after
        if entry.outcome is Outcome.UNKNOWN:
            found.doubts.append(doubt)
    return found


def account_changes(transaction: Transaction) -> int:
    """How many times the transaction changes a row of ``wallet.accounts``: each change counts its ``version`` up."""
    match transaction:
        case Payment() | CaptureHold():
            return 2
        case OpenHold() | FreeHold():
            return 1
        case _:
            return 0


def changes(transaction: Transaction) -> Iterator[tuple[Entity, Change]]:
    """What a transaction does to each of its entities."""
    match transaction:
        case Payment(id=id_, payer=payer, payee=payee, amount=amount, memo=memo):
            yield (ENTRIES, id_), _set(_lines(payer, payee, amount, memo))
            if transaction.point:
                yield (POINTS, id_), _set((_pending(transaction.point),))
        case LatePoint(payment=payment, point=point):
            yield (POINTS, payment), _set((_pending(point),))
        case OpenHold(hold=hold, account=account, amount=amount):
            yield (HOLDS, hold), _set(((account, amount, "open", None),))
        case CaptureHold(id=id_, hold=hold, account=account, payee=payee, amount=amount):
            yield (HOLDS, hold), _set(((account, amount, "captured", id_),))
            yield (ENTRIES, id_), _set(_lines(account, payee, amount, "capture"))
        case FreeHold(hold=hold, account=account, amount=amount, state=state):
            yield (HOLDS, hold), _set(((account, amount, state, None),))
        case Register(token=token, account=account, details=details, fingerprint=fingerprint):
            network = json.loads(details)["network"]
            yield (CARDS, token), _set(((account, "pending", canonical(details), fingerprint, network),))
        case SetCardStatus(token=token, status=status):
            yield (CARDS, token), _replace({1: status})
        case RemoveCard(token=token):
            yield (CARDS, token), _set(())
        case Settle(id=id_, payments=payments, points=points):
            yield (SETTLEMENTS, id_), _set(((points,),))
            for payment in payments:
                yield (POINTS, payment), _replace({2: "confirmed", 3: id_})
        case Expire(payment=payment):
            yield (POINTS, payment), _replace({2: "expired"})
        case EditMemo(payment=payment, memo=memo):
            yield (POINTS, payment), _replace({5: memo})


def canonical(details: str) -> str:
    """JSON text in one spelling: ``jsonb`` orders keys in its own way."""
    return json.dumps(json.loads(details), sort_keys=True)


def _lines(payer: int, payee: int, amount: str, memo: str | None) -> State:
    return ((1, payer, f"-{amount}", CURRENCY, memo), (2, payee, amount, CURRENCY, memo))


def _pending(point: Points) -> tuple[Value, ...]:
    return (point.account, point.points, "pending", None, point.category, point.memo)


def _set(state: State) -> Change:
    return lambda _before: state


def _replace(values: Mapping[int, Value]) -> Change:
    return lambda rows: tuple(tuple(values.get(i, value) for i, value in enumerate(row)) for row in rows)
