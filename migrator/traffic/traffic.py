"""All that holds and leads the traffic of a switch's contexts, as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg import conninfo

from contexts.databases import Database
from contexts.errors import CarveoutError, ConfigError
from contexts.loader import expand
from contexts.model import Hooks as DeclaredHooks
from contexts.model import PgBouncer, Side
from migrator.run import Run
from migrator.traffic.bouncers import Addresses, Bouncer, Bouncers
from migrator.traffic.driver import Driver, TrafficBroken, TrafficBusy
from migrator.traffic.gate import Gate
from migrator.traffic.hooks import Hooks
from migrator.traffic.inifile import Address

#: How long a step of leading traffic may take where nothing else bounds it.
LEAD_S = 10.0


@dataclass(frozen=True)
class Traffic:
    """The drivers in the order in which they hold: what is not ours first, the gates last."""

    hooks: Sequence[Hooks]
    bouncers: Bouncers
    gates: Sequence[Gate]
    from_side: Side
    to_side: Side

    @property
    def drivers(self) -> list[Driver]:
        """All that there are."""
        return [*self.hooks, *([self.bouncers] if self.bouncers.bouncers else []), *self.gates]

    def reasons(self) -> Iterable[str]:
        """Everything that keeps a driver from its part."""
        for driver in self.drivers:
            yield from driver.check(self.from_side, self.to_side)

    def note(self) -> dict[str, Any]:
        """What :func:`noted` makes the same traffic of, in another process; holds no secret."""
        return {
            "pgbouncer": [bouncer.note(self.from_side) for bouncer in self.bouncers.bouncers],
            "hooks": [hooks.note() for hooks in self.hooks],
        }

    def ready(self) -> None:
        """Open every session that holding needs."""
        for driver in self.drivers:
            driver.ready()

    def hold(self, *, attempt_s: float, patience_s: float, on_busy: Callable[[TrafficBusy], None]) -> float:
        """Let new transactions wait and those in flight end, all at once; again with back-off while some do not end.

        :param attempt_s: how long each driver may make transactions wait per attempt.
        :param on_busy: told of each attempt that failed.
        :returns: when the first transaction of the last attempt may have begun to wait (monotonic clock).
        :raises TrafficBusy: some never ended within ``patience_s``.
        :raises TrafficBroken: a driver cannot hold.
        """
        deadline, pause_s = time.monotonic() + patience_s, 0.05
        while True:
            began = time.monotonic()
            try:
                for driver in self.drivers:
                    driver.hold(time.monotonic() + attempt_s)
                return began
            except TrafficBusy as error:
                self.release(self.from_side)
                on_busy(error)
                if time.monotonic() + pause_s > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)

    def repoint(self, deadline: float) -> None:
        """Lead what waits to the side that will open.

        :raises TrafficBroken: one could not; none has let anything go.
        """
        for driver in self.drivers:
            driver.repoint(self.to_side, deadline)

    def release(self, side: Side) -> None:
        """Let everything go to the side that is open; tries every driver.

        :raises TrafficBroken: names all that could not.
        """
        self._all([partial(driver.release, side) for driver in reversed(self.drivers)])

    def lead(self, side: Side) -> None:
        """Lead everything to a side that is open and let it go: the way back, and forward again after a crash.

        :raises TrafficBroken: names all that could not; the others are led.
        """
        deadline = time.monotonic() + LEAD_S
        self._all([partial(_lead, driver, side, deadline) for driver in reversed(self.drivers)])

    def close(self) -> None:
        """End all sessions; a gate opens with its session."""
        for driver in self.drivers:
            driver.close()

    @staticmethod
    def _all(actions: Iterable[Callable[[], None]]) -> None:
        problems = []
        for action in actions:
            try:
                action()
            except CarveoutError as error:
                problems.append(error.message)
        if problems:
            raise TrafficBroken("; ".join(problems))


def _lead(driver: Driver, side: Side, deadline: float) -> None:
    try:
        driver.repoint(side, deadline)
    finally:
        driver.release(side)  # what waits and cannot be led is refused by the closed side, and told where to go


def declared(runs: Sequence[Run], from_side: Side) -> Traffic:
    """The traffic of these contexts, as they declare it.

    :raises ConfigError: a ``${VAR}`` is missing, or two contexts lead one entry to different places.
    """
    merged: dict[tuple[str, str], Bouncer] = {}
    for run in runs:
        for one in run.context.traffic.pgbouncer:
            bouncer = _bouncer(one, {entry: _addresses(run, one) for entry in one.databases}, str(run.context.folder))
            known = merged.setdefault((one.admin, one.config), bouncer)
            _merge(known, bouncer)
    hooks = [
        Hooks(run.name, run.context.traffic.hooks, {side: address(run.databases[side]) for side in Side}, from_side)
        for run in runs
        if run.context.traffic.hooks != DeclaredHooks()
    ]
    gates = [Gate(run.databases[from_side], run.name) for run in runs]
    return Traffic(hooks, Bouncers(list(merged.values())), gates, from_side, from_side.other)


def noted(note: Mapping[str, Any], runs: Sequence[Run], from_side: Side) -> Traffic:
    """The traffic that another process held, by its :meth:`Traffic.note`.

    What these contexts do not declare any more is left out: so its user says that it is gone.
    """
    still = {(one.name, entry) for run in runs for one in run.context.traffic.pgbouncer for entry in one.databases}
    bouncers = []
    for one in note["pgbouncer"]:
        declared = PgBouncer(**one["declared"])
        addresses: dict[str, Addresses] = {
            entry: {Side(side): found for side, found in there.items()}
            for entry, there in one["addresses"].items()
            if (declared.name, entry) in still
        }
        if addresses:
            bouncers.append(_bouncer(declared, addresses, "the journal"))
    names = {run.name for run in runs}
    hooks = [Hooks.of_note(one, from_side) for one in note["hooks"] if one["context"] in names]
    return Traffic(hooks, Bouncers(bouncers), [], from_side, from_side.other)


def nothing(from_side: Side) -> Traffic:
    """The traffic of a switch that had held none."""
    return Traffic([], Bouncers([]), [], from_side, from_side.other)


def address(database: Database) -> Address:
    """Where a database is, without user and password."""
    given = conninfo.conninfo_to_dict(database.url)
    found = {key: given.get(key) for key in ("host", "port", "dbname")}
    return {key: str(value) if value is not None else None for key, value in found.items()}


def _addresses(run: Run, bouncer: PgBouncer) -> Addresses:
    said = {Side.SHARED: bouncer.shared, Side.SERVICE: bouncer.service}
    return {
        side: {**address(run.databases[side]), **conninfo.conninfo_to_dict(said[side])}  # type: ignore[dict-item]
        for side in Side
    }


def _bouncer(one: PgBouncer, addresses: dict[str, Addresses], where: str) -> Bouncer:
    return Bouncer(one, addresses, expand(one.admin, where=f"{where}: traffic.pgbouncer {one.name}: admin"))


def _merge(known: Bouncer, other: Bouncer) -> None:
    for entry, addresses in other.addresses.items():
        if known.addresses.setdefault(entry, addresses) != addresses:
            raise ConfigError(
                f"PgBouncer {known.name}: entry {entry!r} would have to lead to two databases",
                unchanged="nothing was changed",
                next_step="give each context an entry of its own",
            )
