"""What an application adopts: ``from carveout.shims import Side, gated_engine``.

Every name is loaded when it is first asked for, so an application that uses psycopg alone loads no SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contexts.errors import CarveoutError
    from contexts.names import Side
    from migrator.shims.across import CutRefused
    from migrator.shims.aio import RoutedAsyncSessions, gated_async_engine
    from migrator.shims.direct import GatedConnections
    from migrator.shims.engine import NotGated, gated_engine
    from migrator.shims.gate import GateClosed
    from migrator.shims.lockstep import LockstepRefused
    from migrator.shims.places import Elsewhere, Moving
    from migrator.shims.reads import Reads
    from migrator.shims.routing import RoutedSessions
    from migrator.shims.shadow import Shadow

__all__ = [
    "CarveoutError",
    "CutRefused",
    "Elsewhere",
    "GateClosed",
    "GatedConnections",
    "LockstepRefused",
    "Moving",
    "NotGated",
    "Reads",
    "RoutedAsyncSessions",
    "RoutedSessions",
    "Shadow",
    "Side",
    "gated_async_engine",
    "gated_engine",
]
_HOMES = {
    "CarveoutError": "contexts.errors",
    "CutRefused": "migrator.shims.across",
    "Elsewhere": "migrator.shims.places",
    "GateClosed": "migrator.shims.gate",
    "GatedConnections": "migrator.shims.direct",
    "LockstepRefused": "migrator.shims.lockstep",
    "Moving": "migrator.shims.places",
    "NotGated": "migrator.shims.engine",
    "Reads": "migrator.shims.reads",
    "RoutedAsyncSessions": "migrator.shims.aio",
    "RoutedSessions": "migrator.shims.routing",
    "Shadow": "migrator.shims.shadow",
    "Side": "contexts.names",
    "gated_async_engine": "migrator.shims.aio",
    "gated_engine": "migrator.shims.engine",
}


if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)
