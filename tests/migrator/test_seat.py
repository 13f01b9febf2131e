"""The seat of a group's worker, where the group has decided and the lock tells otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from contexts.databases import Database, Databases
from contexts.errors import RefusedError
from migrator.control import locks
from migrator.control.migrations import Migration, read
from migrator.worker.seat import InGroup, NotOurTurn
from tests.migrator.moving import Bank


class Member:
    """A member of a group that says that the topic is its own, and is right about it."""

    has_ended, holds, generation, topic = False, True, 1, "t"

    def take(self, _timeout_s: float) -> bool:
        return True

    def is_confirmed(self) -> bool:
        return True

    def let_go(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def seat(tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch) -> Callable[[], InGroup]:
    bank = Bank.create(tmp_path, pair)
    path = tmp_path / "contexts" / "bank" / "context.toml"
    kafka = '[kafka]\nbootstrap = "127.0.0.1:1"\nconnect = "http://127.0.0.1:1"\ngroup = "g"\n'
    path.write_text(f'source = "kafka"\n{path.read_text()}{kafka}')
    bank.expand_variables()
    monkeypatch.setattr(InGroup, "_member", lambda _self, _migration: Member())
    return lambda: InGroup(bank.context, pair, lambda: None)


def test_who_was_replaced_and_takes_the_lock_again_does_not_end_its_successor(
    seat: Callable[[], InGroup], pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair.shared.connect("test") as conn:
        migration: Migration = read(conn, "bank")
    end = locks.end_another

    def end_another(shared: Database, context: str, role: str, group: str) -> bool:
        ended = end(shared, context, role, group)
        if again:
            again.pop()
            assert replaced.sit(migration)
        return ended

    again = [True]
    monkeypatch.setattr(locks, "end_another", end_another)
    with closing(seat()) as replaced, closing(seat()) as successor:
        assert replaced.sit(migration)
        with pytest.raises(NotOurTurn, match="was faster") as refused:
            successor.sit(migration)
        assert refused.value.transient
        assert not isinstance(refused.value, RefusedError)
        assert not successor.taken.is_set()
        assert successor.sit(migration)
        assert successor.taken.is_set()
