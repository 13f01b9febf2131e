"""What every step of a migration gets: the context, the two databases and the executor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Databases
from contexts.errors import ConfigError
from contexts.model import Context, Side
from migrator.control import migrations
from migrator.control.migrations import Migration
from migrator.executor import Executor


@dataclass(frozen=True)
class Run:
    """One command at work on one context."""

    context: Context
    databases: Databases
    executor: Executor
    _tables: dict[Side, list[Table]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The context's name."""
        return self.context.name

    @property
    def control(self) -> Connection:
        """The connection to the control schema."""
        return self.executor.connection(Side.SHARED)

    def migration(self) -> Migration:
        """The migration as it stands now."""
        return migrations.read(self.control, self.name)

    def tables(self, side: Side, *, again: bool = False) -> list[Table]:
        """The context's tables on a side, partitions included; read once, or ``again``.

        :raises ConfigError: a declared table is not there.
        """
        if side in self._tables and not again:
            return self._tables[side]
        found = read_tables(self.executor.connection(side), self.context.table_names)
        if missing := [str(name) for name in self.context.table_names if name not in found]:
            raise ConfigError(
                f"{self.context.folder / 'context.toml'}: tables: not in the {side} database: {', '.join(missing)}",
                unchanged="nothing was changed",
                next_step=f"carveout check {self.name}",
            )
        self._tables[side] = list(found.values())
        return self._tables[side]


class Step(Protocol):
    """One part of a procedure; the driver owns order and reversal.

    Shown by running :meth:`apply` on a recording executor.
    """

    name: str

    def apply(self, run: Run) -> None:
        """Do it; doing it again goes on from where it was left."""

    def undo(self, run: Run) -> None:
        """Take it back, wholly or as far as it had come."""
