"""The services of the wallet: each decides what to do next and remembers what the databases acknowledged.

A service never touches again what a transaction of unknown outcome wrote, so that the judge can tell whether that
one happened. All of one entity's transactions are made by one service, one after the other.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from contexts.example.ledger import Outcome
from contexts.example.transactions import (
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

_CATEGORIES = ("groceries", "travel", "eating_out", "other")
_TEXTS = (
    "",
    "plain",
    'O\'Brien "quoted" \\ back\\nslash',
    "tab\tnew\nline",
    "Grüße, 東京 🎌",
    "NULL",
    "\\N",
    "x" * 3000,
)
_KEEP = 2000  # of each thing that a service remembers
#: Runs a transaction; ``withdraw`` rolls it back after everything is written.
Run = Callable[..., Outcome]


@dataclass
class World:
    """What the services share: the accounts, and the acknowledged points that are still pending."""

    accounts: list[int]
    pending: deque[tuple[str, int]]


class Service(Protocol):
    """One service of the wallet."""

    #: The database role that it logs in with.
    role: str

    def step(self) -> None:
        """Make one transaction."""


class Payments:
    """Pays between random accounts; now and then too much, and now and then it thinks better of it."""

    role = "wallet_service"

    def __init__(self, run: Run, world: World, rng: random.Random, together: Callable[[], bool]) -> None:
        self._run, self._world, self._rng, self._together = run, world, rng, together

    def step(self) -> None:
        """One payment, with its point in the same transaction where that is possible."""
        rng = self._rng
        payer, payee = rng.sample(self._world.accounts, 2)
        chance = rng.random()
        amount = "99999999.99" if chance < 0.02 else _amount(rng)
        point = Points(payer, rng.randint(0, 500), rng.choice(_CATEGORIES), _memo(rng))
        together = self._together()
        payment = Payment(_id(rng), payer, payee, amount, _memo(rng), point if together else None)
        outcome = self._run(payment, withdraw=0.02 <= chance < 0.04)
        if outcome is Outcome.ACKNOWLEDGED and not together:
            outcome = self._run(LatePoint(_id(rng), payment.id, point))
        if outcome is Outcome.ACKNOWLEDGED:
            self._world.pending.append((payment.id, point.points))


class Holds:
    """Opens holds, then captures, releases or expires them."""

    role = "wallet_service"

    def __init__(self, run: Run, world: World, rng: random.Random) -> None:
        self._run, self._accounts, self._rng = run, world.accounts, rng
        self._open: list[OpenHold] = []

    def step(self) -> None:
        """Open a hold or close one."""
        rng = self._rng
        if not self._open or (rng.random() < 0.5 and len(self._open) < _KEEP):
            hold = OpenHold(_id(rng), _id(rng), rng.choice(self._accounts), _amount(rng))
            if self._run(hold) is Outcome.ACKNOWLEDGED:
                self._open.append(hold)
            return
        hold = self._open.pop(rng.randrange(len(self._open)))
        if self._run(self._closing(hold)) is Outcome.REJECTED:
            self._open.append(hold)

    def _closing(self, hold: OpenHold) -> Transaction:
        rng = self._rng
        if rng.random() < 0.5:
            payee = rng.choice([account for account in rng.sample(self._accounts, 2) if account != hold.account])
            return CaptureHold(_id(rng), hold.hold, hold.account, payee, hold.amount)
        return FreeHold(_id(rng), hold.hold, hold.account, hold.amount, rng.choice(("released", "expired")))


class Cards:
    """Registers cards, changes their status and removes some."""

    role = "card_service"

    def __init__(self, run: Run, world: World, rng: random.Random) -> None:
        self._run, self._accounts, self._rng = run, world.accounts, rng
        self._cards: list[Register] = []

    def step(self) -> None:
        """Register, change or remove a card."""
        rng = self._rng
        chance = rng.random()
        if not self._cards or (chance < 0.5 and len(self._cards) < _KEEP):
            self._register(again=chance < 0.03)
            return
        card = self._cards.pop(rng.randrange(len(self._cards)))
        removed = chance > 0.85
        change = RemoveCard(_id(rng), card.token) if removed else SetCardStatus(
            _id(rng), card.token, rng.choice(("active", "blocked"))
        )  # fmt: skip
        outcome = self._run(change)
        if outcome is Outcome.REJECTED or (outcome is Outcome.ACKNOWLEDGED and not removed):
            self._cards.append(card)

    def _register(self, *, again: bool) -> None:
        """A new card, or the fingerprint of a known one, which the database must refuse."""
        rng = self._rng
        token = _id(rng)
        fingerprint = hashlib.sha256(token.encode()).hexdigest()
        if again and self._cards:
            fingerprint = rng.choice(self._cards).fingerprint
        details = {
            "network": rng.choice(("visa", "amex", "jcb")),
            "note": rng.choice(_TEXTS),
            "year": rng.randint(1, 99),
        }
        card = Register(_id(rng), token, rng.choice(self._accounts), json.dumps(details), fingerprint)
        if self._run(card) is Outcome.ACKNOWLEDGED:
            self._cards.append(card)


class History:
    """Confirms points by settlements, lets some expire, and rewrites memos."""

    role = "history_service"

    def __init__(self, run: Run, world: World, rng: random.Random) -> None:
        self._run, self._pending, self._rng = run, world.pending, rng
        self._done: deque[str] = deque(maxlen=_KEEP)

    def step(self) -> None:
        """Settle, expire or edit; nothing where no payment was acknowledged yet."""
        chance = self._rng.random()
        if chance < 0.4:
            self._settle()
        elif chance < 0.5 and self._pending:
            payment, points = self._pending.popleft()
            self._finish(self._run(Expire(_id(self._rng), payment)), [(payment, points)])
        elif chance < 0.75 and self._done:
            payment = self._done.popleft()
            if self._edit(payment) is not Outcome.UNKNOWN:
                self._done.append(payment)
        elif self._pending:
            pending = self._pending.popleft()
            if self._edit(pending[0]) is not Outcome.UNKNOWN:
                self._pending.append(pending)

    def _settle(self) -> None:
        taken = [self._pending.popleft() for _ in range(min(self._rng.randint(1, 5), len(self._pending)))]
        if taken:
            payments = tuple(payment for payment, _ in taken)
            settle = Settle(_id(self._rng), payments, sum(points for _, points in taken))
            self._finish(self._run(settle), taken)

    def _finish(self, outcome: Outcome, taken: list[tuple[str, int]]) -> None:
        if outcome is Outcome.ACKNOWLEDGED:
            self._done.extend(payment for payment, _ in taken)
        elif outcome is Outcome.REJECTED:
            self._pending.extend(taken)

    def _edit(self, payment: str) -> Outcome:
        return self._run(EditMemo(_id(self._rng), payment, _memo(self._rng)))


def _id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _amount(rng: random.Random) -> str:
    cents = rng.randint(1, 300)
    return f"{cents // 100}.{cents % 100:02}"


def _memo(rng: random.Random) -> str | None:
    return None if rng.random() < 0.2 else f"{rng.choice(_TEXTS)} {rng.getrandbits(64):x}"
