"""The demo's stage with the stream through a real Kafka, Connect and Debezium."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

from cdc.kafka.stack import Stack
from contexts.model import Side
from migrator.demo.stage import ROOT, Stage

SECTION = """
[kafka]
bootstrap = "${DEMO_KAFKA_BOOTSTRAP}"
connect = "${DEMO_KAFKA_CONNECT_URL}"
"""


class KafkaStage(Stage):
    """A stage whose wallet says ``source = "kafka"``; the running stack belongs to the caller."""

    def __init__(self, majors: dict[Side, int], stack: Stack) -> None:
        super().__init__(majors)
        self._stack = stack

    def __enter__(self) -> Self:
        super().__enter__()
        self.environment |= {
            "DEMO_KAFKA_BOOTSTRAP": self._stack.bootstrap,
            "DEMO_KAFKA_CONNECT_URL": self._stack.connect_url,
        }
        self.project = _project(self.folder / "project")
        return self


def _project(folder: Path) -> Path:
    """A copy of the example project in which the wallet's stream goes through Kafka."""
    folder.mkdir()
    shutil.copy(ROOT / "carveout.toml", folder)
    for file in (ROOT / "contexts").glob("*/context.toml"):
        shutil.copytree(file.parent, folder / "contexts" / file.parent.name)
    wallet = folder / "contexts" / "wallet" / "context.toml"
    wallet.write_text('source = "kafka"\n' + wallet.read_text() + SECTION)
    return folder
