from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contexts.databases import Database, Databases
from contexts.model import Side
from tests.outbox.shop import Shop


@pytest.fixture
def arrived(new_database: Callable[[int, Side], Database]) -> Database:
    """The database in which events arrive."""
    return new_database(18, Side.SERVICE)


@pytest.fixture
def shop(tmp_path: Path, pair: Databases, arrived: Database) -> Shop:
    """A shop that is prepared."""
    return Shop.create(tmp_path, pair, arrived)
