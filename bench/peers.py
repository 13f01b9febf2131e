"""Where the peers' programs are, at the versions compared here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.harness import BenchError
from contexts.embedded import available_majors

#: In ``build/``, which git ignores: a peer's dependencies must not touch ours.
_FOLDER = Path(__file__).parent.parent / "build" / "peers"
RELADIFF = "reladiff[postgresql]==0.6.0"


def pgcopydb() -> str | None:
    """The path of pgcopydb, or None (Debian: ``apt-get install pgcopydb``)."""
    return shutil.which("pgcopydb")


def reladiff() -> str:
    """The Python that has reladiff, installed into an environment of its own at the first call.

    :raises BenchError: it could not be installed.
    """
    python = _FOLDER / "reladiff" / "bin" / "python"
    if not python.with_name("reladiff").exists():
        run([sys.executable, "-m", "venv", "--clear", str(_FOLDER / "reladiff")])
        run([str(python), "-m", "pip", "install", "--quiet", RELADIFF])
    return str(python)


def server_programs(major: int) -> dict[str, str]:
    """An environment in which ``pg_dump`` and its like are those of that major version."""
    return {**os.environ, "PATH": f"{available_majors()[major]}:{os.environ.get('PATH', '')}"}


def run(command: list[str], env: dict[str, str] | None = None, ok: tuple[int, ...] = (0,)) -> str:
    """Run a program to its end and return its stdout.

    :raises BenchError: it ended with another code than ``ok``; holds the tail of its output.
    """
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        output = (done.stdout + done.stderr)[-4000:]
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}:\n{output}")
    return done.stdout
