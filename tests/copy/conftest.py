from __future__ import annotations

import pytest

from cdc.copy import split, target


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of some pages, so that small tables have many, and primary keys built after every load."""
    monkeypatch.setattr(split, "MIN_PART_BYTES", 32 * 1024)
    monkeypatch.setattr(target, "MIN_BYTES_WITHOUT_KEY", 0)
