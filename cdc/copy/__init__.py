"""The initial copy from the open to the closed side, in cycles of bounded snapshots."""

from cdc.copy.cycle import recover, run_cycle
from cdc.copy.failures import CopyFailed, DiskFull, SnapshotLost, WorkerDied
from cdc.copy.ledger import coverage, fence
from cdc.copy.ledger import read as read_parts
from cdc.copy.model import CopyControl, CopyProgress, Coverage, CycleResult, Part, Strategy
from cdc.copy.plan import plan
from cdc.copy.target import reset

__all__ = [
    "CopyControl",
    "CopyFailed",
    "CopyProgress",
    "Coverage",
    "CycleResult",
    "DiskFull",
    "Part",
    "SnapshotLost",
    "Strategy",
    "WorkerDied",
    "coverage",
    "fence",
    "plan",
    "read_parts",
    "recover",
    "reset",
    "run_cycle",
]
