"""Which tables the copy has brought so far: what the applier may expect to find on the closed side."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from contexts.model import TableName


class Extent(enum.Enum):
    """How much of a table is on the closed side, and so what a change of it means there."""

    #: No part is copied: changes are skipped, a later snapshot brings them.
    NONE = "none"
    #: Some key ranges are copied: inserts replace, and a row that an update or delete does not find is no error.
    PARTIAL = "partial"
    #: All of it: every change must find exactly the rows it names.
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Coverage:
    """The extent of each table (partitions by their own names); tables not named are complete."""

    extents: Mapping[TableName, Extent] = field(default_factory=dict)

    def of(self, table: TableName) -> Extent:
        """The extent of ``table``."""
        return self.extents.get(table, Extent.FULL)


#: Every table is complete.
FULL = Coverage()
