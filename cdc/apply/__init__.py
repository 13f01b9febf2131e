"""How source transactions are written to the closed side: :class:`Applier` is all that others need."""

from cdc.apply.applier import Applier
from cdc.apply.batch import Pending
from cdc.apply.coverage import FULL, Coverage, Extent
from cdc.apply.markers import Marker
from cdc.apply.types import SourceTypes
from cdc.apply.watch import Interest, Observer, Passed, Passing

__all__ = [
    "FULL", "Applier", "Coverage", "Extent", "Interest", "Marker", "Observer", "Passed", "Passing", "Pending",
    "SourceTypes",
]  # fmt: skip
