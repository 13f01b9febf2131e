"""Files that no Python package carries, fetched once by Maven from their public coordinates and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from contexts.errors import CarveoutError

Coordinates = tuple[str, str, str]
"""Group, artifact, version."""


class FetchFailed(CarveoutError):
    """Maven is not here, or could not fetch what was asked for."""


def cache_folder() -> Path:
    """Where fetched files are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carveout"


def cached(name: str, make: Callable[[Path], Path]) -> Path:
    """The folder ``name`` of the cache; where it is not there, what ``make`` has put together.

    :param make: is given an empty folder to work in, and returns the folder in it to keep.
    """
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        make(partial).rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first: its copy is as good
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def copy_dependencies(folder: Path, coordinates: Sequence[Coordinates], timeout_s: float = 600.0) -> Path:
    """Fetch the jars, with what they depend on, into ``folder/jars``; returns that.

    :raises FetchFailed: holds the end of Maven's output.
    """
    (folder / "pom.xml").write_text(_pom(coordinates), encoding="utf-8")
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime"]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if done.returncode:
        raise FetchFailed(f"Maven could not fetch the files: {(done.stdout + done.stderr)[-2000:]}")
    return folder / "jars"


def _pom(coordinates: Sequence[Coordinates]) -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in coordinates
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>carveout</groupId><artifactId>fetched</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
