"""The errors a user sees: what happened, what was left alone, what to run next.

Every error that Carveout raises on purpose is a :class:`CarveoutError`. The command line prints its three
facts and ends with :attr:`CarveoutError.exit_code`; nothing else decides an exit code.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of every command (documented in ``docs/cli.md``)."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    DIFFERENCES = 3
    REFUSED = 4
    NEEDS_HUMAN = 5


class CarveoutError(Exception):
    """Something failed.

    :param message: what happened, naming the file, key, table or slot.
    :param unchanged: what was *not* changed, in one sentence.
    :param next_step: the command or the action that goes on from here.
    """

    exit_code = ExitCode.ERROR
    #: True where trying again later, with nothing changed by hand, can succeed.
    transient = False

    def __init__(self, message: str, *, unchanged: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.unchanged = unchanged
        self.next_step = next_step

    def lines(self) -> list[str]:
        """The error as the lines a terminal shows."""
        shown = [f"error: {self.message}"]
        if self.unchanged:
            shown.append(f"unchanged: {self.unchanged}")
        if self.next_step:
            shown.append(f"next: {self.next_step}")
        return shown


class ConfigError(CarveoutError):
    """A configuration file cannot be used; the message names the file and the key."""

    exit_code = ExitCode.USAGE


class DatabaseUnreachable(CarveoutError):
    """A server did not accept a connection."""

    transient = True


class TlsRefused(DatabaseUnreachable):
    """The certificate or the TLS settings do not fit; the message holds libpq's reason, the next step the setting."""

    transient = False


class AccessDenied(CarveoutError):
    """A server refused the login or a right; the password is never shown."""


class RefusedError(CarveoutError):
    """A guard refused the action; nothing was done."""

    exit_code = ExitCode.REFUSED


class DifferencesFound(CarveoutError):
    """A proof ran to its end and found the sides different."""

    exit_code = ExitCode.DIFFERENCES


class NeedsHuman(CarveoutError):
    """The state cannot be decided by a program."""

    exit_code = ExitCode.NEEDS_HUMAN


class StreamStopped(CarveoutError):
    """The stream stopped rather than skip a change or write a wrong row."""

    exit_code = ExitCode.NEEDS_HUMAN
    #: Start of the commit that it stopped at, where everything before that can be applied nevertheless.
    applicable_until: int | None = None


class SchemaMismatch(StreamStopped):
    """A change does not fit the closed side's table: a revision must be written."""


class SlotLost(StreamStopped):
    """The replication slot is gone, invalidated, re-created or ahead of the stored position."""
