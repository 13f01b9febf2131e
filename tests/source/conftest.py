from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contexts.databases import Database
from contexts.model import Side
from tests.conftest import MAJORS
from tests.source.upstream import Upstream

_numbers = itertools.count(1)
MakeUpstream = Callable[[int], Upstream]


@pytest.fixture
def new_upstream(new_database: Callable[[int, Side], Database], tmp_path: Path) -> Iterator[MakeUpstream]:
    """``new_upstream(16)``: an empty database on that server to stream from."""
    made: list[Upstream] = []

    def make(major: int) -> Upstream:
        database = new_database(major, Side.SHARED)
        made.append(Upstream(database, tmp_path / "spool", database.connect("test"), f"slot_{next(_numbers)}"))
        return made[-1]

    yield make
    for upstream in made:
        upstream.conn.close()


@pytest.fixture(params=MAJORS)
def upstream(request: pytest.FixtureRequest, new_upstream: MakeUpstream) -> Upstream:
    """One upstream on each major version."""
    return new_upstream(request.param)


@pytest.fixture
def upstream16(new_upstream: MakeUpstream) -> Upstream:
    return new_upstream(16)
