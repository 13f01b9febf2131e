"""The contract of a context's events: as the open side's tables make it now, and against one that was written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contexts.errors import ConfigError, DifferencesFound
from migrator.run import Run

if TYPE_CHECKING:
    from cdc.kafka.contract import Change, Contract

LABELS = "SELECT enumtypid::int8, array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum GROUP BY enumtypid"


def present(run: Run) -> Contract:
    """The contract as of now, with version 1.

    :raises ConfigError: the context's stream does not go through Kafka.
    :raises RefusedError: a column would not arrive whole.
    """
    from cdc.kafka.cluster import Cluster
    from cdc.kafka.contract import describe
    from cdc.kafka.settings import Encoding

    cluster, migration = Cluster.of(run.context), run.migration()
    side = migration.open_side
    encoding = Encoding.of(cluster.config(migration.stream, run.databases[side], placeholder=""))
    labels = {oid: tuple(names) for oid, names in run.executor.connection(side).execute(LABELS)}
    tables = {table.name: table for table in run.tables(side)}
    return describe(run.name, run.context.table_names, tables, encoding, cluster.plain_arrays, labels)


def document(contract: Contract, formats: Collection[str]) -> dict[str, Any]:
    """What the command prints where it writes no file."""
    from cdc.kafka.contract import schemas

    return {"version": 1, "context": contract.context, "schemas": schemas(contract, formats), "next_steps": []}


def write(contract: Contract, folder: Path, formats: Collection[str]) -> list[str]:
    """Write the contract; what became of it, and every change, as lines."""
    from cdc.kafka.contract import compare
    from cdc.kafka.contract import folder as files

    known = files.read(folder, contract.context)
    done = files.write(folder, contract, formats)
    if known is None:
        return [f"{contract.context}: contract {done.version} written, {len(done.tables)} tables"]
    what = "written" if done.version != known.version else "has not changed"
    changes = compare(known, contract)
    return [f"{contract.context}: contract {done.version} {what}", *map(_line, changes), *_judged(changes)]


@dataclass(frozen=True)
class Comparison:
    """A contract against the one that was written."""

    context: str
    version: int
    changes: Sequence[Change]

    def lines(self) -> list[str]:
        """Every change with what it breaks, and what that means."""
        head = f"{self.context}: {len(self.changes) or 'no'} changes since contract {self.version}"
        return [head, *map(_line, self.changes), *_judged(self.changes)]

    def require(self, wanted: str) -> None:
        """Refuse what breaks ``backward``, ``forward`` or ``both``.

        :raises DifferencesFound: names each change that does.
        """
        insisted = {"backward", "forward"} if wanted == "both" else {wanted}
        refused = [change for change in self.changes if insisted & change.breaks]
        if not refused:
            return
        kinds = ", ".join(sorted(insisted & {kind for change in refused for kind in change.breaks}))
        named = "; ".join(f"{change.where}: {change.what}" for change in refused)
        raise DifferencesFound(
            f"contract {self.version} of {self.context} is broken ({kinds}): {named}",
            unchanged="the contract in the folder",
            next_step="tell the consumers first; then -o writes the next version",
        )


def against(contract: Contract, folder: Path) -> Comparison:
    """The contract compared with the one in ``folder``.

    :raises ConfigError: there is none.
    """
    from cdc.kafka.contract import compare, read

    known = read(folder, contract.context)
    if known is None:
        step = f"carveout connector schema {contract.context} -o FOLDER"
        raise ConfigError(f"{folder}: holds no contract", next_step=step)
    return Comparison(contract.context, known.version, compare(known, contract))


def _judged(changes: Sequence[Change]) -> list[str]:
    from cdc.kafka.contract import Break

    broken = {kind for change in changes for kind in change.breaks}
    return [", ".join(f"{kind}: {'BROKEN' if kind in broken else 'compatible'}" for kind in Break)] if changes else []


def _line(change: Change) -> str:
    broken = ", ".join(sorted(change.breaks))
    return f"{'!' if broken else ' '} {change.where}: {change.what}" + (f" (breaks {broken})" if broken else "")
