"""What a parity check finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a side is not what it has to be."""

    #: Short and stable: ``sequence``, ``column``, ``constraint``, ``index``, ``grant``, ...
    kind: str
    #: The qualified name of what is wrong.
    object: str
    detail: str
    #: The statement, or the action, that puts it right.
    fix: str


@dataclass(frozen=True, slots=True)
class Parity:
    """All that a verification found around the rows, a line each."""

    schema: tuple[str, ...] = ()
    #: Before a switch the closed side may be behind: the switch sets the sequences.
    sequences: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
