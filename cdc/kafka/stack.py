"""A real Kafka with Kafka Connect and Debezium on this machine, without containers: for tests and development.

One KRaft broker and one distributed Connect worker (only the distributed one offers exactly-once sources). Both
listen on the loopback interface alone, write their logs into the stack's folder, and end with this process.
Nothing here is meant to keep data.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cdc.kafka import jars
from contexts.embedded import die_with_parent, free_port
from contexts.errors import CarveoutError

# Short-lived JVMs on a small machine: the quick compiler only, the simplest collector.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.net.preferIPv4Stack=true")
#: Debezium writes the zone of its JVM into range and composite texts: it has to be UTC, here and in production.
CONNECT_JVM = ("-Duser.timezone=UTC",)
_READY_POLL_S = 0.05


class StackError(CarveoutError):
    """The stack did not come up; the message holds the end of the log."""


@dataclass
class Stack:
    """Broker and Connect worker; ``folder`` holds their configuration, data and logs."""

    folder: Path
    heap_mb: int = 384
    broker_port: int = 0
    connect_port: int = 0
    #: A folder of further jars; where both have a class, the stack's own counts.
    more_jars: Path | None = None
    #: Seconds from the start to readiness, by process.
    timings: dict[str, float] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """``host:port`` for Kafka clients."""
        return f"127.0.0.1:{self.broker_port}"

    @property
    def connect_url(self) -> str:
        """The root of Connect's REST interface."""
        return f"http://127.0.0.1:{self.connect_port}"

    def start(self, timeout_s: float = 60.0) -> Stack:
        """Start both and wait until each answers.

        :raises StackError: one of them ended or did not answer in time; nothing is left running.
        :raises FetchFailed: the jars could not be fetched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._jars = jars.fetch()
        deadline = time.monotonic() + timeout_s
        try:
            self.start_broker(deadline)
            self.start_connect(deadline)
        except BaseException:
            self.stop()
            raise
        return self

    def start_broker(self, deadline: float) -> None:
        """Start the broker on its former port and data, or on new ones."""
        self.broker_port = self.broker_port or free_port()
        config = self.folder / "broker.properties"
        if not config.exists():
            _write_properties(config, broker_settings(self.folder, self.broker_port, free_port()))
            self._format(config)
        self._spawn("broker", "kafka.Kafka", config)
        self._wait("broker", lambda: _accepts(self.broker_port), deadline)

    def start_connect(self, deadline: float) -> None:
        """Start the Connect worker; its connectors are kept in the broker's topics."""
        self.connect_port = self.connect_port or free_port()
        config = self.folder / "connect.properties"
        _write_properties(config, connect_settings(self.bootstrap, self.connect_port))
        self._spawn("connect", "org.apache.kafka.connect.cli.ConnectDistributed", config, *CONNECT_JVM)
        self._wait("connect", lambda: _answers(f"{self.connect_url}/health"), deadline)

    def stop(self, name: str = "", *, kill: bool = True) -> None:
        """End both processes or the named one: at once, or (``kill=False``) in their own orderly way."""
        for one in [name] if name else ["connect", "broker"]:
            if process := self.processes.pop(one, None):
                process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
                process.wait(60)

    def log(self, name: str, size: int = 4000) -> str:
        """The end of a process's log."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else ""

    def resident_mb(self) -> dict[str, int]:
        """Resident memory by process in MiB."""
        pages = {name: Path(f"/proc/{p.pid}/statm").read_text().split()[1] for name, p in self.processes.items()}
        return {name: int(count) * os.sysconf("SC_PAGE_SIZE") >> 20 for name, count in pages.items()}

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _format(self, config: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._command(
            "format", "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)
        )
        done = subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            raise StackError(f"the broker's storage could not be formatted: {done.stderr.decode()[-2000:]}")

    def _spawn(self, name: str, main: str, config: Path, *flags: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                self._command(name, *flags, main, str(config)), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent(signal.SIGKILL),
            )  # fmt: skip

    def _command(self, name: str, *arguments: str) -> list[str]:
        log = self.folder / "log4j2.properties"
        _write_properties(log, _LOGGING)
        fixed = [*_JVM, f"-Xmx{self.heap_mb}m", f"-Dlog4j2.configurationFile={log}", f"-Dcarveout.part={name}"]
        classes = ":".join(f"{folder}/*" for folder in (self._jars, self.more_jars) if folder)
        return ["java", *fixed, "-cp", classes, *arguments]

    def _wait(self, name: str, ready: Callable[[], bool], deadline: float) -> None:
        begin, process = time.monotonic(), self.processes[name]
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise StackError(f"{name} ended at its start:\n{self.log(name)}")
            if ready():
                self.timings[name] = time.monotonic() - begin
                return
            time.sleep(_READY_POLL_S)  # neither tells readiness but by answering
        raise StackError(f"{name} did not answer in time:\n{self.log(name)}")


def broker_settings(folder: Path, port: int, controller_port: int) -> dict[str, str]:
    """A single combined broker and controller; topics are made by whoever needs them, never by a typo."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "broker"),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "log.retention.ms": "-1",
    }


def connect_settings(bootstrap: str, port: int) -> dict[str, str]:
    """A Connect worker with exactly-once sources and fast commits."""
    json = "org.apache.kafka.connect.json.JsonConverter"
    topics = {
        f"{kind}.storage.{key}": value
        for kind in ("config", "offset", "status")
        for key, value in (("topic", f"connect-{kind}"), ("replication.factor", "1"))
    }
    return {
        "bootstrap.servers": bootstrap,
        "group.id": "carveout-connect",
        "listeners": f"http://127.0.0.1:{port}",
        "rest.advertised.host.name": "127.0.0.1",
        "key.converter": json,
        "value.converter": json,
        "exactly.once.source.support": "enabled",
        "plugin.discovery": "service_load",
        "offset.storage.partitions": "1",
        "status.storage.partitions": "1",
        "offset.flush.interval.ms": "1000",
        # A killed worker's successor takes its tasks over at once.
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "1000",
        **topics,
    }


_LOGGING: Mapping[str, str] = {
    "appender.out.type": "Console",
    "appender.out.name": "out",
    "appender.out.layout.type": "PatternLayout",
    "appender.out.layout.pattern": "%d{HH:mm:ss.SSS} %p %c{1} %m%n",
    "rootLogger.level": "INFO",
    "rootLogger.appenderRef.out.ref": "out",
}


def _write_properties(path: Path, settings: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status) == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
