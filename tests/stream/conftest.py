from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contexts.databases import Databases
from tests.stream.sides import Sides


@pytest.fixture
def sides(pair: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sides]:
    """Both sides, not yet :meth:`~Sides.reset`; kill points are theirs."""
    made = Sides(pair, tmp_path)
    for module in ("cdc.apply.applier", "cdc.source.assembler"):
        monkeypatch.setattr(f"{module}.kill_point", made.kill_point)
    yield made
    made.close()
