"""Fetched files are made once, wholly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from contexts import maven


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "carveout"


def make(folder: Path) -> Path:
    (folder / "kept").mkdir()
    (folder / "kept" / "file").write_text("whole")
    return folder / "kept"


def test_made_once(cache: Path) -> None:
    assert maven.cached("thing", make) == cache / "thing"
    assert maven.cached("thing", lambda folder: pytest.fail(f"made again in {folder}")) == cache / "thing"
    assert [path.name for path in cache.iterdir()] == ["thing"]


def test_a_failure_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> Path:
        make(folder)
        raise maven.FetchFailed("no network")

    with pytest.raises(maven.FetchFailed):
        maven.cached("thing", fail)
    assert list(cache.iterdir()) == []


def test_another_process_may_be_first(cache: Path) -> None:
    def second(folder: Path) -> Path:
        maven.cached("thing", make)
        return make(folder)

    assert (maven.cached("thing", second) / "file").read_text() == "whole"
    assert [path.name for path in cache.iterdir()] == ["thing"]
