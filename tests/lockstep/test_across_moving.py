"""A session over a context that really moves and a table that stays: streaming, lockstep, switched, and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from contexts.model import Side
from migrator.shims import across, lockstep
from migrator.shims.places import Moving
from migrator.shims.routing import RoutedSessions
from tests.lockstep.conftest import Lockstepped
from tests.migrator.driving import switch
from tests.migrator.inprocess import verify
from tests.waiting import wait_until


class Died(BaseException):
    """Stands for the end of the application: nothing in it takes care of anything any more."""


@pytest.fixture
def sessions(bank: Lockstepped) -> Iterator[RoutedSessions]:
    with bank.both.shared.connect("test") as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS public.log (memo text)")
    moving = {"bank": Moving(bank.both.service.url, ["bank.account", "bank.entry"])}
    made = RoutedSessions(bank.both.shared.url, moving, across="two-phase", wait_limit_s=30.0)
    yield made
    made.dispose()


def pay(sessions: RoutedSessions, memo: str) -> None:
    with sessions.begin() as session:
        session.execute(text("INSERT INTO bank.entry (account, amount, memo) VALUES (1, 1, :memo)"), {"memo": memo})
        session.execute(text("INSERT INTO public.log (memo) VALUES (:memo)"), {"memo": memo})


def found(bank: Lockstepped, memo: str) -> tuple[int, int, int]:
    """On the shared side, on the service side, in the log."""
    counts = []
    for side, table in ((Side.SHARED, "bank.entry"), (Side.SERVICE, "bank.entry"), (Side.SHARED, "public.log")):
        with bank.both[side].connect("test") as conn:
            row = conn.execute(f"SELECT count(*) FROM {table} WHERE memo = %s".encode(), (memo,)).fetchone()
        counts.append(int(row[0]) if row else 0)
    return counts[0], counts[1], counts[2]


def await_found(bank: Lockstepped, memo: str, ends: tuple[int, int, int]) -> None:
    wait_until(lambda: found(bank, memo) == ends, lambda: f"{found(bank, memo)}")


def test_one_application_through_all_phases(
    bank: Lockstepped, sessions: RoutedSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(sessions, "streaming")
    with bank.in_lockstep():
        pay(sessions, "lockstep")
        assert found(bank, "lockstep") == (1, 1, 1)
    verify(bank)
    switch(bank, Side.SERVICE)
    pay(sessions, "switched")
    for module, point, memo, ends in (
        (across, "cut.prepared", "prepared alone", (0, 0, 0)),
        (lockstep, "shim.decided", "decided", (1, 1, 1)),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, "kill_point", dying_at(point))
            with pytest.raises(Died):
                pay(sessions, memo)
        wait_until(lambda: bank.prepared() == 0, lambda: f"{bank.prepared()} prepared")
        await_found(bank, memo, ends)
    bank.await_equal()
    verify(bank)
    switch(bank, Side.SHARED)
    pay(sessions, "back")
    bank.await_equal()
    for memo in ("streaming", "lockstep", "switched", "back"):
        assert found(bank, memo) == (1, 1, 1), memo


def dying_at(point: str) -> object:
    def die(name: str) -> None:
        if name == point:
            raise Died

    return die
