"""Doctor names what is prepared, what becomes of it, and what only a human can decide; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from migrator.lockstep import keeper, recovery
from migrator.lockstep.recovery import Fate
from migrator.shims.direct import GatedConnections
from migrator.shims.link import SyncLink
from tests.lockstep.conftest import Lockstepped

LOST = "carveout:bank:7000000000000000000:00000009:1234"
PAY = "UPDATE bank.account SET balance = balance + 1 WHERE id = 70"


@pytest.fixture
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker leaves what is prepared alone."""
    monkeypatch.setattr(keeper, "ORPHAN_S", 3600.0)


@pytest.fixture
def lost(bank: Lockstepped) -> Iterator[None]:
    """A transaction of a server that failed over, which the new one does not know."""
    with psycopg.connect(bank.both.service.url, autocommit=True) as conn:
        conn.execute("BEGIN; CREATE TABLE bank.lost (); ")
        conn.execute(f"PREPARE TRANSACTION '{LOST}'")
        yield
        conn.execute(f"ROLLBACK PREPARED '{LOST}'")


def doctor(bank: Lockstepped) -> str:
    return bank.cli("doctor", "bank", expect=None).stdout


def fates(bank: Lockstepped) -> list[Fate]:
    with bank.both.shared.connect("test") as shared, bank.both.service.connect("test") as service:
        return [one.fate for one in recovery.in_doubt(shared, service, "bank")]


@pytest.mark.usefixtures("unkept")
def test_a_transaction_is_named_with_what_becomes_of_it(bank: Lockstepped, gated: GatedConnections) -> None:
    bank.await_equal()
    with bank.in_lockstep():
        assert "applications write both sides" in doctor(bank)
        with gated.transaction() as conn:
            conn.execute(PAY)
            prepared = gated._lockstep.ship(SyncLink(conn))
            assert prepared is not None
            assert fates(bank) == [Fate.WAITS]
            shown = doctor(bank)
            assert prepared.gid in shown
            assert "its transaction is open (process" in shown
            raise psycopg.Rollback
        assert fates(bank) == [Fate.ROLL_BACK]
        assert f"ROLLBACK PREPARED '{prepared.gid}'" in doctor(bank)
        assert bank.prepared() == 1
        prepared.undo(psycopg.errors.SerializationFailure())


@pytest.mark.usefixtures("lost")
def test_what_only_you_can_decide_comes_with_both_statements(bank: Lockstepped) -> None:
    assert fates(bank) == [Fate.UNDECIDED]
    done = bank.cli("doctor", "bank", expect=5)
    assert "only you can decide" in done.stdout
    assert f"ROLLBACK PREPARED '{LOST}'" in done.stdout
    assert f"COMMIT PREPARED '{LOST}'" in done.stdout
