from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdc.source.arriving import Arriving
from contexts.databases import Database, Databases
from contexts.model import Side
from tests.stream.sides import Sides


@pytest.fixture
def sides(
    request: pytest.FixtureRequest,
    new_database: Callable[[int, Side], Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sides]:
    """Both sides, not yet :meth:`~Sides.reset`; kill points are theirs. A parameter gives the major versions."""
    open_, closed = getattr(request, "param", (16, 18))
    made = Sides(Databases(new_database(open_, Side.SHARED), new_database(closed, Side.SERVICE)), tmp_path)
    for module in ("cdc.apply.applier", "cdc.source.assembler"):
        monkeypatch.setattr(f"{module}.kill_point", made.kill_point)
    take = Arriving._next

    def take_next(arriving: Arriving) -> list[bytes]:
        made.arriving()
        return take(arriving)

    monkeypatch.setattr(Arriving, "_next", take_next)
    yield made
    made.close()
