"""PgBouncer: PAUSE, a new address in the configuration, RELOAD, RESUME. Clients of any language wait, and lose nothing.

Several are told at once, each entry over a console session of its own, since PAUSE waits for the clients in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from contexts.model import PgBouncer, Side
from migrator.traffic import inifile
from migrator.traffic.console import OLDEST, Console, ConsoleTimeout
from migrator.traffic.driver import TrafficBroken, TrafficBusy
from migrator.traffic.inifile import Address

Addresses = Mapping[Side, Address]


@dataclass
class Bouncer:
    """One PgBouncer with the entries that move.

    :param addresses: by entry, how this PgBouncer reaches each side.
    :param url: of its admin console.
    """

    declared: PgBouncer
    addresses: dict[str, Addresses]
    url: str = field(repr=False)

    def __post_init__(self) -> None:
        self.console = Console(self.name, self.url)
        self._pausing: dict[str, Console] = {}

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.declared.name

    @property
    def pauses(self) -> bool:
        """Whether its clients wait; otherwise they only connect anew."""
        return self.declared.how == "pause"

    def check(self, side: Side) -> Iterable[str]:
        """What keeps it from taking part; ``side`` is the one that is open."""
        try:
            if self.console.version()[:2] < OLDEST:
                yield f"PgBouncer {self.name} is older than {'.'.join(map(str, OLDEST))}"
                return
            rows = self.console.databases()
            for entry, addresses in self.addresses.items():
                yield from self._entry_reasons(entry, rows.get(entry), addresses[side], side)
            yield from self._file_reasons(side)
        except TrafficBroken as error:
            yield error.message

    def _entry_reasons(
        self, entry: str, row: Mapping[str, str | None] | None, wanted: Address, side: Side
    ) -> Iterable[str]:
        if row is None:
            yield f"PgBouncer {self.name} has no entry {entry!r}"
            return
        if row["paused"] != "0" or row["disabled"] != "0":
            yield f"PgBouncer {self.name}: {entry!r} is {'paused' if row['paused'] != '0' else 'disabled'}"
            return
        if not _leads(row, wanted, entry):
            yield (
                f"PgBouncer {self.name}: {entry!r} leads to {row['host']}:{row['port']}/{row['database']}, not to the"
                f' {side} side ({_shown(wanted, entry)}); declare how it reaches that one: {side} = "host=..."'
            )
        try:
            self.console.run(f"RESUME {_name(entry)}")  # refused as not paused, or for want of rights
        except TrafficBroken as error:
            if "is not paused" not in error.message:
                yield error.message

    def _file_reasons(self, side: Side) -> Iterable[str]:
        path = Path(self.declared.config)
        try:
            text = inifile.read(path)
            inifile.replace(path, text)
        except (OSError, UnicodeDecodeError) as error:
            yield f"PgBouncer {self.name}: {path}: {getattr(error, 'strerror', None) or error}"
            return
        for entry, addresses in self.addresses.items():
            found = inifile.address(text, entry)
            if found is None:
                yield f"PgBouncer {self.name}: {path} has no line for the entry {entry!r}"
            elif _complete(found, entry) != _complete(addresses[side], entry):
                yield f"PgBouncer {self.name}: {path}: {entry!r} leads elsewhere than the running PgBouncer does"

    def note(self, side: Side) -> dict[str, object]:
        """What another process needs to go on from here; ``side`` is led back to with the words of the file.

        :raises TrafficBroken: the file cannot be read.
        """
        text = self._text()
        for entry, addresses in self.addresses.items():
            self.addresses[entry] = {**addresses, side: inifile.address(text, entry) or addresses[side]}
        return {"declared": self.declared.model_dump(mode="json"), "addresses": self.addresses}

    def ready(self) -> None:
        """Open the console's sessions."""
        for entry in self.addresses:
            self._pausing.setdefault(entry, Console(self.name, self.url))
        for console in (self.console, *self._pausing.values()):
            console.run("SHOW VERSION")

    def begin_hold(self) -> None:
        """Send PAUSE for every entry."""
        if self.pauses:
            for entry, console in self._pausing.items():
                console.start(f"PAUSE {_name(entry)}")

    def end_hold(self, deadline: float) -> None:
        """Wait until all entries are paused."""
        if self.pauses:
            for entry, console in self._pausing.items():
                try:
                    console.finish(deadline)
                except ConsoleTimeout as error:
                    raise self._busy(entry) from error

    def _busy(self, entry: str) -> TrafficBusy:
        pids = [
            int(row["remote_pid"] or 0)
            for row in self.console.run("SHOW SERVERS")
            if row["database"] == entry and row["state"] == "active"
        ]
        return TrafficBusy(f"PgBouncer {self.name}: clients of {entry!r} did not let go in time", pids)

    def repoint(self, side: Side, deadline: float) -> None:
        """Lead every entry to the side, first in the file: a PgBouncer that is started anew comes up right."""
        before = text = self._text()
        for entry, addresses in self.addresses.items():
            text = inifile.pointed(text, entry, addresses[side])
        if text != before:
            try:
                inifile.replace(Path(self.declared.config), text)
            except OSError as error:
                raise TrafficBroken(f"PgBouncer {self.name}: {self.declared.config}: {error.strerror}") from error
        kill_point("traffic.file_written")
        self.console.run("RELOAD", deadline)
        kill_point("traffic.reloaded")
        rows = self.console.databases(deadline)
        for entry, addresses in self.addresses.items():
            if not _leads(rows.get(entry, {}), addresses[side], entry):
                raise TrafficBroken(f"PgBouncer {self.name}: {entry!r} does not lead to the {side} side after RELOAD")
            if not self.pauses:
                self.console.run(f"RECONNECT {_name(entry)}", deadline)

    def release(self) -> None:
        """RESUME every entry that is paused."""
        for entry, row in self.console.databases().items():
            if entry in self.addresses and row["paused"] != "0":
                self.console.run(f"RESUME {_name(entry)}")
                kill_point("traffic.one_resumed")

    def _text(self) -> str:
        try:
            return inifile.read(Path(self.declared.config))
        except (OSError, UnicodeDecodeError) as error:
            raise TrafficBroken(f"PgBouncer {self.name}: {self.declared.config}: {error}") from error

    def close(self) -> None:
        """End the sessions."""
        for console in (self.console, *self._pausing.values()):
            console.close()


@dataclass(frozen=True)
class Bouncers:
    """All PgBouncers of a switch, as one driver."""

    bouncers: Sequence[Bouncer]

    @property
    def name(self) -> str:
        """What messages call it."""
        return "PgBouncer " + ", ".join(bouncer.name for bouncer in self.bouncers)

    def check(self, from_side: Side, to_side: Side) -> Iterable[str]:
        """What keeps any of them from taking part."""
        for bouncer in self.bouncers:
            yield from bouncer.check(from_side)

    def ready(self) -> None:
        """Open the sessions of all."""
        for bouncer in self.bouncers:
            bouncer.ready()

    def hold(self, deadline: float) -> None:
        """PAUSE all entries at once."""
        for bouncer in self.bouncers:
            bouncer.begin_hold()
        for bouncer in self.bouncers:
            bouncer.end_hold(deadline)
            kill_point("traffic.one_paused")

    def repoint(self, side: Side, deadline: float) -> None:
        """Lead all to the side."""
        _each(self.bouncers, lambda bouncer: bouncer.repoint(side, deadline))

    def release(self, side: Side) -> None:
        """RESUME all."""
        _each(self.bouncers, lambda bouncer: bouncer.release())

    def close(self) -> None:
        """End all sessions."""
        for bouncer in self.bouncers:
            bouncer.close()


def _each(bouncers: Iterable[Bouncer], action: Callable[[Bouncer], None]) -> None:
    """Do it with every one, whatever becomes of the others."""
    problems = []
    for bouncer in bouncers:
        try:
            action(bouncer)
        except CarveoutError as error:
            problems.append(error.message)
    if problems:
        raise TrafficBroken("; ".join(problems))


def _leads(row: Mapping[str, str | None], wanted: Address, entry: str) -> bool:
    there = {"host": row.get("host"), "port": row.get("port"), "dbname": row.get("database")}
    return _complete(there, entry) == _complete(wanted, entry)


def _complete(address: Address, entry: str) -> Address:
    """With what PgBouncer takes where nothing is said."""
    return {
        "host": address.get("host") or None,
        "port": address.get("port") or "5432",
        "dbname": address.get("dbname") or entry,
    }


def _shown(address: Address, entry: str) -> str:
    whole = _complete(address, entry)
    return f"{whole['host'] or 'local'}:{whole['port']}/{whole['dbname']}"


def _name(entry: str) -> str:
    return '"' + entry.replace('"', '""') + '"'
