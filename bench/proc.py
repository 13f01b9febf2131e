"""CPU time and memory of a process and all its descendants, from ``/proc`` (Linux, see proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: Index in /proc/PID/stat after the command name: utime, stime, cutime, cstime.
_TIMES = slice(11, 15)


def tree(pid: int) -> Iterator[int]:
    """``pid`` and its living descendants."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree, with the descendants that have ended and were waited for."""
    return sum(_ticks(member) for member in tree(pid)) / _TICKS_PER_S


def machine_cpu_seconds() -> float:
    """What all processes of the machine have used together."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


def private_bytes(pid: int) -> int:
    """Anonymous memory of the tree: not the server's shared buffers, which belong to no single process."""
    return sum(_status_kb(member, "RssAnon:") for member in tree(pid)) * 1024


def peak_bytes(pid: int) -> int:
    """The largest resident set of one living process since it began its program; 0 when it has ended.

    Unlike ``ru_maxrss`` of wait4(2), which counts what the parent had at the time of fork and exec.
    """
    return _status_kb(pid, "VmHWM:") * 1024


def _ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, stat[stat.rindex(")") + 2 :].split()[_TIMES]))


def _status_kb(pid: int, field: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0  # ended in between, or a zombie
