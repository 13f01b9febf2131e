"""The statements for what only a human can decide: printed by ``doctor``, never run by a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg import sql

from contexts.catalog import Table
from contexts.model import Side
from migrator.control.migrations import Migration
from migrator.control.switches import Switch
from migrator.sides import writelock
from migrator.sides.writelock import LockState


def set_locks(context: str, side: Side, states: dict[Table, LockState], wanted: LockState) -> list[str]:
    """Close or open every table of a side that is not so; a table without a lock gets one where it is to be closed."""
    statements: list[str] = []
    for table, state in states.items():
        if state is LockState.MISSING and wanted is LockState.CLOSED:
            statements += writelock.creation(context, side, table)
        elif state not in (wanted, LockState.MISSING):
            verb = "ENABLE" if wanted is LockState.CLOSED else "DISABLE"
            statements.append(f"ALTER TABLE {table.identifier().as_string()} {verb} TRIGGER {writelock.TRIGGER}")
    return statements


def open_shared_without_service(
    migration: Migration, switch: Switch | None, states: dict[Table, LockState]
) -> Iterator[str]:
    """Go back to the shared side, without the writes that only the lost service side has."""
    context, epoch = sql.Literal(migration.context), sql.Literal(migration.epoch + 1)
    yield "BEGIN"
    yield from set_locks(migration.context, Side.SHARED, states, LockState.OPEN)
    if switch is not None:
        ended = "UPDATE carveout.switch SET outcome = 'undone', ended_at = now(), reason = 'by hand' WHERE id = "
        yield ended + sql.Literal(str(switch.id)).as_string()
    for statement in (
        "UPDATE carveout.migration SET state = 'streaming', open_side = 'shared', epoch = {epoch}, driver = driver + 1"
        " WHERE context = {context}",
        "UPDATE carveout.route SET open_side = 'shared', epoch = {epoch} WHERE context = {context}",
    ):
        yield sql.SQL(statement).format(context=context, epoch=epoch).as_string()
    yield "COMMIT"


def as_lines(side: Side, statements: Iterable[str]) -> list[str]:
    """The statements as doctor shows them, one a line."""
    return [f"    {side}: {statement};" for statement in statements]
