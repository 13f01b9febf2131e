"""A declared reference as an invariant: stored, shown and asked for like one."""

from __future__ import annotations

from contexts.model import Context, Reference
from validations.invariants.model import Invariant, Kind, Severity

_PREFIX = "reference "


def declared(context: Context) -> tuple[Invariant, ...]:
    """The context's references."""
    return tuple(map(as_invariant, context.references))


def as_invariant(reference: Reference) -> Invariant:
    """The reference, with a name that no file can have."""
    ends = f"{reference.table} ({', '.join(reference.columns)})"
    to = f"{reference.references} ({', '.join(reference.referenced_columns)})"
    return Invariant(
        name=f"{_PREFIX}{ends}",
        proves=f"each key in {ends} is in {to}, across the boundary; counted by key",
        sql=f"FOREIGN KEY {ends} REFERENCES {to}",
        severity=Severity.CRITICAL,
        kind=Kind.ROWS,
        key=reference.columns,
    )
