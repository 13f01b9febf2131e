"""Hooks: commands of the user's own for whatever else leads traffic (HAProxy, a service mesh, DNS)."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from contexts.model import Command, Side
from contexts.model import Hooks as Declared
from migrator.traffic.driver import TrafficBroken

_log = logging.getLogger(__name__)


class Vetoed(TrafficBroken):
    """A hook ended with an exit status other than 0, or did not end in time."""


@dataclass(frozen=True)
class Hooks:
    """The hooks of one context.

    :param addresses: host, port and dbname by side, for the environment; never a password.
    """

    context: str
    declared: Declared
    addresses: Mapping[Side, Mapping[str, str | None]]
    from_side: Side

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the hooks of {self.context}"

    def note(self) -> dict[str, Any]:
        """What :meth:`of_note` makes the same hooks of."""
        return {
            "context": self.context,
            "declared": self.declared.model_dump(mode="json"),
            "addresses": {side: dict(address) for side, address in self.addresses.items()},
        }

    @classmethod
    def of_note(cls, note: Mapping[str, Any], from_side: Side) -> Hooks:
        """The hooks that another process would have run."""
        addresses = {Side(side): address for side, address in note["addresses"].items()}
        return cls(note["context"], Declared(**note["declared"]), addresses, from_side)

    def check(self, from_side: Side, to_side: Side) -> Iterable[str]:
        """A command that is not there is found before anybody waits."""
        for hook in ("on_pause", "on_switch", "on_resume"):
            command: Command = getattr(self.declared, hook)
            if command and shutil.which(command[0]) is None:
                yield f"{hook} of {self.context}: {command[0]!r} is no command here"

    def ready(self) -> None:
        """Nothing is needed."""

    def hold(self, deadline: float) -> None:
        """``on_pause``; the deadline is the hook's own time limit, for what waits is the hook's own affair."""
        self._run("on_pause", self.from_side, None)

    def repoint(self, side: Side, deadline: float) -> None:
        """``on_switch``."""
        self._run("on_switch", side, deadline)

    def release(self, side: Side) -> None:
        """``on_resume``."""
        self._run("on_resume", side, None)

    def close(self) -> None:
        """Nothing is kept."""

    def _run(self, hook: str, side: Side, deadline: float | None) -> None:
        command: Command = getattr(self.declared, hook)
        if not command:
            return
        limit = self.declared.timeout_s
        if deadline is not None:
            limit = max(0.0, min(limit, deadline - time.monotonic()))
        code, said = _ended(command, self._environment(hook, side), limit)
        if code != 0:
            what = f"ended with {code}" if code is not None else f"did not end within {limit:.1f} s"
            raise Vetoed(f"{hook} of {self.context} ({command[0]}) {what}" + (f": {said}" if said else ""))

    def _environment(self, hook: str, side: Side) -> dict[str, str]:
        address = self.addresses[side]
        return {
            **os.environ,
            "CARVEOUT_HOOK": hook,
            "CARVEOUT_CONTEXT": self.context,
            "CARVEOUT_SIDE": str(side),
            "CARVEOUT_FROM_SIDE": str(self.from_side),
            "CARVEOUT_HOST": address.get("host") or "",
            "CARVEOUT_PORT": address.get("port") or "",
            "CARVEOUT_DBNAME": address.get("dbname") or "",
        }


def _ended(command: Command, environment: Mapping[str, str], limit: float) -> tuple[int | None, str]:
    """The exit status (None: ended by us) and the last line that the command said."""
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return error.errno, str(error.strerror)
    try:
        said, _ = process.communicate(timeout=limit)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
        said, _ = process.communicate()
        code = None
    last = (said.strip().splitlines() or [""])[-1]
    _log.info("hook %s: %s", command[0], last)
    return code, last
