"""The Java parts of the scale-out source, fetched once by Maven from their public coordinates."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from contexts.errors import CarveoutError

KAFKA_VERSION = "4.3.0"
DEBEZIUM_VERSION = "3.6.3.Final"
#: group, artifact, version; Maven brings what they depend on.
COORDINATES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "connect-runtime", KAFKA_VERSION),
    ("org.apache.kafka", "connect-transforms", KAFKA_VERSION),
    ("org.apache.kafka", "connect-json", KAFKA_VERSION),
    ("io.debezium", "debezium-connector-postgres", DEBEZIUM_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
)


class JarsMissing(CarveoutError):
    """The Java parts are not here and could not be fetched."""


def missing_tools() -> list[str]:
    """What this machine lacks to fetch and run the stack."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def fetch(timeout_s: float = 600.0) -> Path:
    """The folder that holds the jars; the first call on a machine downloads them (about 60 MB).

    :raises JarsMissing: Maven is not here or failed; holds the end of its output.
    """
    folder = _cache() / f"kafka-{KAFKA_VERSION}-debezium-{DEBEZIUM_VERSION}"
    if folder.is_dir():
        return folder
    if missing := missing_tools():
        raise JarsMissing(f"not on the PATH: {', '.join(missing)}", next_step="install a Java 17 runtime and Maven")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        _copy_dependencies(partial, timeout_s)
        (partial / "jars").rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first: its copy is as good
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _copy_dependencies(folder: Path, timeout_s: float) -> None:
    (folder / "pom.xml").write_text(_pom(), encoding="utf-8")
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime"]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if done.returncode:
        raise JarsMissing(f"Maven could not fetch the jars: {(done.stdout + done.stderr)[-2000:]}")


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in COORDINATES
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>carveout</groupId><artifactId>stack</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carveout"
