"""The SQL of each kind of transaction, on a connection that is inside a transaction already."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from contexts import sqlfiles
from contexts.databases import Connection
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

_SQL = sqlfiles.load("contexts.example", "services.sql")


class Withdrawn(Exception):
    """The service changed its mind, or did not find what it wanted to change: the transaction is rolled back."""


def do(conn: Connection, transaction: Transaction) -> None:
    """Write everything that the transaction is about.

    :raises Withdrawn: a row that must be there was not.
    """
    match transaction:
        case Payment():
            _pay(conn, transaction)
        case LatePoint():
            _point(conn, transaction.payment, transaction.point)
        case OpenHold():
            _run(conn, "open_hold", **asdict(transaction))
            _change_account(conn, transaction.account, "0", f"-{transaction.amount}")
        case CaptureHold():
            _capture(conn, transaction)
        case FreeHold():
            _run(conn, "close_hold", hold=transaction.hold, state=transaction.state, capture=None)
            _change_account(conn, transaction.account, "0", transaction.amount)
        case Register():
            _run(conn, "register", **asdict(transaction))
        case SetCardStatus():
            _run(conn, "card_status", **asdict(transaction))
        case RemoveCard():
            _run(conn, "remove_card", **asdict(transaction))
        case Settle():
            _run(conn, "settlement", id=transaction.id, points=transaction.points)
            payments = list(transaction.payments)
            _run(conn, "confirm", rows=len(payments), id=transaction.id, payments=payments)
        case Expire():
            _run(conn, "expire", **asdict(transaction))
        case EditMemo():
            _run(conn, "memo", **asdict(transaction))


def accounts(conn: Connection) -> list[int]:
    """Accounts that may pay."""
    return [account for (account,) in conn.execute(_SQL["accounts"])]


def _pay(conn: Connection, payment: Payment) -> None:
    _transfer(
        conn, payment.id, payment.payer, payment.payee, payment.amount, payment.memo, available=f"-{payment.amount}"
    )
    if payment.point:
        _point(conn, payment.id, payment.point)


def _capture(conn: Connection, capture: CaptureHold) -> None:
    _run(conn, "close_hold", hold=capture.hold, state="captured", capture=capture.id)
    # What is taken was reserved: it is no longer part of what is available.
    _transfer(conn, capture.id, capture.account, capture.payee, capture.amount, "capture", available="0")


def _transfer(
    conn: Connection, id_: str, payer: int, payee: int, amount: str, memo: str | None, *, available: str
) -> None:
    _run(conn, "entries", rows=2, id=id_, payer=payer, payee=payee, amount=amount, currency=CURRENCY, memo=memo)
    changes = {payer: (f"-{amount}", available), payee: (amount, amount)}
    for account in sorted(changes):  # always in one order, so that two transfers cannot wait for each other
        _change_account(conn, account, *changes[account])


def _change_account(conn: Connection, account: int, balance: str, available: str) -> None:
    _run(conn, "change_account", account=account, balance=balance, available=available)


def _point(conn: Connection, payment: str, point: Points) -> None:
    _run(conn, "point", payment=payment, **asdict(point))


def _run(conn: Connection, statement: str, *, rows: int = 1, **arguments: Any) -> None:
    changed = conn.execute(_SQL[statement], arguments).rowcount
    if changed != rows:
        raise Withdrawn(f"{statement}: {changed} rows instead of {rows}")
