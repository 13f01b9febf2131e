"""An application that goes through the gate may already run when the migration is prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contexts import revisions
from contexts.databases import Databases
from contexts.model import Side
from tests.migrator import inprocess
from tests.migrator.moving import Bank


def test_it_may_look_into_the_schema_from_its_first_moment(
    tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right it would fail with "permission denied", where "no such table" says: not prepared."""
    bank, upgrade, seen = Bank.create(tmp_path, pair), revisions.upgrade, []
    bank.expand_variables()

    def upgrade_and_look(*arguments: Any, **options: Any) -> None:
        upgrade(*arguments, **options)
        for side in Side:
            with bank.both[side].connect("test") as conn:
                # pg_monitor stands for a role that was granted nothing of ours.
                seen.append(
                    conn.execute(
                        "SELECT coalesce(bool_and(has_schema_privilege('pg_monitor', oid, 'USAGE')), true)"
                        " FROM pg_namespace WHERE nspname = 'carveout'"
                    ).fetchone()
                )

    monkeypatch.setattr(revisions, "upgrade", upgrade_and_look)
    inprocess.prepare(bank)
    assert len(seen) >= 6
    assert set(seen) == {(True,)}
