"""``carveout.shims`` as an application meets it: installed, in a fresh interpreter, outside of the repository."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from carveout import shims

HEAVY = {"alembic", "click", "pydantic", "kafka", "great_expectations", "rich", "cdc", "validations"}
PSYCOPG = ["Side", "GatedConnections", "GateClosed", "LockstepRefused", "CarveoutError"]
ROUTED = ["CutRefused", "Elsewhere", "Moving", "RoutedAsyncSessions", "RoutedSessions"]
SQLALCHEMY = [*PSYCOPG, *ROUTED, "NotGated", "Reads", "Shadow", "gated_async_engine", "gated_engine"]


@pytest.mark.parametrize(("names", "absent"), [(PSYCOPG, HEAVY | {"sqlalchemy"}), (SQLALCHEMY, HEAVY)])
def test_an_application_loads_no_heavy_part(tmp_path: Path, names: list[str], absent: set[str]) -> None:
    program = (
        f"from carveout.shims import {', '.join(names)}\n"
        "import json, sys\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert "migrator" in loaded
    assert loaded & absent == set()


def test_every_name_is_the_one_object_that_the_code_has() -> None:
    assert sorted(SQLALCHEMY) == shims.__all__
    for name in shims.__all__:
        found = getattr(shims, name)
        assert found is getattr(importlib.import_module(found.__module__), name)
    with pytest.raises(AttributeError, match="no attribute 'gated_enigne'"):
        _ = shims.gated_enigne  # type: ignore[attr-defined]
