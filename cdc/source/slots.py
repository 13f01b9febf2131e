"""Everything about slots and publications, under one name.

A slot reads the catalog as it was at each change, so the publication is made before the slot, never after it.
"""

from __future__ import annotations

from cdc.source.export import ExportedSlot, creation_sql, export_slot
from cdc.source.failures import PublicationMissing, SlotActive
from cdc.source.publications import (
    create_publication,
    drop_publication,
    publication_exists,
    publication_sql,
)
from cdc.source.slot_state import (
    PLUGIN,
    Blocker,
    SlotBlocked,
    SlotStatus,
    create_slot,
    drop_slot,
    slot_status,
)

__all__ = [
    "PLUGIN",
    "Blocker",
    "ExportedSlot",
    "PublicationMissing",
    "SlotActive",
    "SlotBlocked",
    "SlotStatus",
    "create_publication",
    "create_slot",
    "creation_sql",
    "drop_publication",
    "drop_slot",
    "export_slot",
    "publication_exists",
    "publication_sql",
    "slot_status",
]
