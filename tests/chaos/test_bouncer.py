"""pgbench through PgBouncer, in short; ``make chaos ARGS=bouncer`` runs twenty rounds."""

from __future__ import annotations

from pathlib import Path

from contexts.databases import Databases
from tests.chaos.bouncer import rounds


def test_no_client_of_pgbouncer_sees_an_error(tmp_path: Path, pair: Databases) -> None:
    seen = rounds(tmp_path, pair, 1, rate=150)
    assert seen.failed == 0
    assert seen.transactions > 100
    assert len(seen.blocked_ms) == 3
