"""The stack is a guest: on the loopback interface only, and gone with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cdc.kafka.connect import Connect
from cdc.kafka.stack import Stack

PROGRAM = """
import signal, sys
from pathlib import Path
from cdc.kafka.stack import Stack
stack = Stack(Path(sys.argv[1])).start()
print(*(process.pid for process in stack.processes.values()), flush=True)
signal.pause()
"""


def test_it_dies_with_its_parent(stack: Stack, tmp_path: Path) -> None:
    del stack  # the jars are here
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 20
    assert len(pids) == 2
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline


def test_it_listens_on_the_loopback_interface_only(stack: Stack) -> None:
    listening = set()
    for process in stack.processes.values():
        for family in ("tcp", "tcp6"):
            inodes = {os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()}
            for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
                part = line.split()
                if part[3] == "0A" and f"socket:[{part[9]}]" in inodes:
                    listening.add(part[1].split(":")[0])
    # 127.0.0.1, and the same in IPv6's notation.
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening


def test_it_is_ready_in_well_under_a_minute_and_runs_debezium(stack: Stack) -> None:
    assert sum(stack.timings.values()) < 60
    [plugin] = Connect(stack.connect_url).call("GET", "/connector-plugins")
    assert plugin["class"] == "io.debezium.connector.postgresql.PostgresConnector"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
