"""What the services of the wallet do: one class per kind of transaction, with all that must come out of it.

An amount is the text that the database will show, such as ``12.30``: it never passes through a float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class Points:
    """The history point of a payment, still pending."""

    account: int
    points: int
    category: str
    memo: str | None


@dataclass(frozen=True, slots=True)
class Payment:
    """Money goes from one account to another; with its point where one database holds both."""

    context: ClassVar = "wallet"
    id: str
    payer: int
    payee: int
    amount: str
    memo: str | None
    point: Points | None


@dataclass(frozen=True, slots=True)
class LatePoint:
    """The point of a payment, in a transaction of its own."""

    context: ClassVar = "history"
    id: str
    payment: str
    point: Points


@dataclass(frozen=True, slots=True)
class OpenHold:
    """Money is reserved on an account."""

    context: ClassVar = "wallet"
    id: str
    hold: str
    account: int
    amount: str


@dataclass(frozen=True, slots=True)
class CaptureHold:
    """Reserved money goes to another account; the ledger transaction has this transaction's ``id``."""

    context: ClassVar = "wallet"
    id: str
    hold: str
    account: int
    payee: int
    amount: str


@dataclass(frozen=True, slots=True)
class FreeHold:
    """Reserved money is available again: the hold was ``released`` or has ``expired``."""

    context: ClassVar = "wallet"
    id: str
    hold: str
    account: int
    amount: str
    state: str


@dataclass(frozen=True, slots=True)
class Register:
    """A card is registered; ``details`` is JSON text, ``fingerprint`` is hex."""

    context: ClassVar = "card"
    id: str
    token: str
    account: int
    details: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SetCardStatus:
    """A card becomes active or blocked."""

    context: ClassVar = "card"
    id: str
    token: str
    status: str


@dataclass(frozen=True, slots=True)
class RemoveCard:
    """A registration is deleted."""

    context: ClassVar = "card"
    id: str
    token: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Pending points are confirmed by a settlement, which has this transaction's ``id``."""

    context: ClassVar = "history"
    id: str
    payments: tuple[str, ...]
    points: int


@dataclass(frozen=True, slots=True)
class Expire:
    """A pending point expires."""

    context: ClassVar = "history"
    id: str
    payment: str


@dataclass(frozen=True, slots=True)
class EditMemo:
    """The memo of a point is rewritten."""

    context: ClassVar = "history"
    id: str
    payment: str
    memo: str | None


Transaction = (
    Payment | LatePoint | OpenHold | CaptureHold | FreeHold | Register | SetCardStatus | RemoveCard | Settle | Expire
    | EditMemo
)  # fmt: skip
_KINDS: Mapping[str, type[Transaction]] = {
    kind.__name__: kind
    for kind in (
        Payment, LatePoint, OpenHold, CaptureHold, FreeHold, Register, SetCardStatus, RemoveCard, Settle, Expire,
        EditMemo,
    )
}  # fmt: skip


def to_json(transaction: Transaction) -> dict[str, Any]:
    """The transaction as JSON values, with its ``kind``."""
    return {"kind": type(transaction).__name__, **asdict(transaction)}


def from_json(values: Mapping[str, Any]) -> Transaction:
    """The inverse of :func:`to_json`.

    :raises KeyError: an unknown kind.
    """
    facts: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key != "kind"}
    if facts.get("point"):
        facts["point"] = Points(**facts["point"])
    return _KINDS[values["kind"]](**facts)
