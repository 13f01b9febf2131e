"""``dev``: what a developer needs beside the two databases."""

from __future__ import annotations

import signal
import tempfile
import threading
from pathlib import Path

import click

from migrator import interrupts


@click.group()
def dev() -> None:
    """Throw-away services for development, on the loopback interface."""


@dev.command()
@click.option("--broker-port", default=9092, show_default=True, help="Port of Kafka (0: a free one).")
@click.option(
    "--connect-port", default=8083, show_default=True, help="Port of Connect's REST interface (0: a free one)."
)
def kafka(broker_port: int, connect_port: int) -> None:
    """Start Kafka, Kafka Connect and Debezium until Ctrl-C; nothing is kept. Needs Java 17 and Maven.

    Both listen on the loopback interface only and end with this process, even where that is killed. Prints the lines
    for a shell that lead a context there.
    """
    from cdc.kafka.stack import Stack

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="carveout-kafka-") as folder:
        click.echo("starting Kafka and Connect (the first time their jars are fetched)", err=True)
        with Stack(Path(folder), broker_port=broker_port, connect_port=connect_port) as stack:
            click.echo(f"export KAFKA_BOOTSTRAP={stack.bootstrap}")
            click.echo(f"export KAFKA_CONNECT_URL={stack.connect_url}")
            click.echo("running; Ctrl-C ends it", err=True)
            interrupts.wait(stop)
