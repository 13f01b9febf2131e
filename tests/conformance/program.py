"""The program under test: a line to it, a line from it."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence

#: How long a program may take to answer where nothing holds it up.
PATIENCE_S = 30.0


class Failed(Exception):
    """The program did not do what the protocol asks; says what."""


class Program:
    """A running program."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def send(self, line: str) -> None:
        """Give it a line, without waiting for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
        except OSError as error:
            raise Failed(f"it has ended, before {line!r}") from error

    def answer(self) -> str:
        """Its next line.

        :raises Failed: there is none.
        """
        try:
            line = self._lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise Failed(f"no answer within {PATIENCE_S:g} s") from None
        if line is None:
            raise Failed("it has ended instead of answering")
        return line

    def has_answered(self) -> bool:
        """Whether a line waits to be read."""
        return not self._lines.empty()

    def ok(self, *lines: str) -> None:
        """Lines that must be answered with ``ok``."""
        for line in lines:
            self.send(line)
            if (answer := self.answer()) != "ok":
                raise Failed(f"{line!r} was answered with {answer!r} instead of ok")

    def refused(self, line: str) -> None:
        """A line that must be answered with an error."""
        self.send(line)
        self.is_refused(line)

    def is_refused(self, line: str) -> None:
        """The answer to a line that was sent before must be an error."""
        if not (answer := self.answer()).startswith("error"):
            raise Failed(f"{line!r} was answered with {answer!r} instead of an error")

    def stops_at(self, name: str) -> None:
        """It must say that it has come to a point."""
        if (answer := self.answer()) != f"at {name}":
            raise Failed(f"it said {answer!r} instead of 'at {name}'")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()
