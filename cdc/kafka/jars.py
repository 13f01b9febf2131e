"""The Java parts of the scale-out source, fetched once by Maven."""

from __future__ import annotations

import shutil
from pathlib import Path

from contexts import maven

KAFKA_VERSION = "4.3.0"
DEBEZIUM_VERSION = "3.6.3.Final"
#: Maven brings what they depend on.
COORDINATES: tuple[maven.Coordinates, ...] = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "connect-runtime", KAFKA_VERSION),
    ("org.apache.kafka", "connect-transforms", KAFKA_VERSION),
    ("org.apache.kafka", "connect-json", KAFKA_VERSION),
    ("io.debezium", "debezium-connector-postgres", DEBEZIUM_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
)


def missing_tools() -> list[str]:
    """What this machine lacks to fetch and run the stack."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def fetch() -> Path:
    """The folder that holds the jars; the first call on a machine downloads them (about 60 MB).

    :raises FetchFailed: Maven or Java is not here, or Maven failed.
    """
    return maven.cached(f"kafka-{KAFKA_VERSION}-debezium-{DEBEZIUM_VERSION}", _make)


def _make(folder: Path) -> Path:
    if missing := missing_tools():
        raise maven.FetchFailed(
            f"not on the PATH: {', '.join(missing)}", next_step="install a Java 17 runtime and Maven"
        )
    return maven.copy_dependencies(folder, COORDINATES)
