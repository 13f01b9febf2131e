"""Sequences at a switch: the real ``last_value`` and ``is_called``, plus a margin.

``max(id)`` would hand out the ids of deleted rows again, and values that sessions have cached are never in a row.
"""

from __future__ import annotations

from psycopg import sql

from contexts.errors import RefusedError
from contexts.model import Side
from migrator.run import Run
from validations.parity.sequences import Place, Sequence, read_sequences, set_value

#: A sequence of the side that closes, with the one that fills the same column on the side that opens.
Pairs = list[tuple[Sequence, Sequence]]


def pair(run: Run, from_side: Side, to_side: Side) -> Pairs:
    """Find the counterparts, before anybody has to wait.

    :raises RefusedError: a sequence has no counterpart.
    """
    sources, targets = _read(run, from_side), _read(run, to_side)
    if missing := [f"{table}.{column}" for table, column in sources if (table, column) not in targets]:
        raise RefusedError(
            f"context {run.name!r}: no sequence on the {to_side} side fills {', '.join(missing)}",
            unchanged="nothing was changed",
            next_step=f"carveout schema check {run.name}",
        )
    return [(source, targets[place]) for place, source in sources.items()]


def carry(run: Run, pairs: Pairs, from_side: Side, to_side: Side) -> None:
    """Set the sequences of ``to_side`` from those of ``from_side``: one round trip to each."""
    if not pairs:
        return
    values = run.executor.read(
        from_side,
        sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(
                sql.Literal(number), sql.Identifier(*source.name)
            )
            for number, (source, _) in enumerate(pairs)
        ),
    )
    margin = run.context.options.sequence_margin
    statements = []
    for number, last, called in values:
        source, target = pairs[number]
        value, is_called = with_margin(source, last, called, margin)
        statements.append(sql.SQL("({})").format(set_value(target.name, value, is_called=is_called)))
    run.executor.write(to_side, sql.SQL("SELECT {}").format(sql.SQL(", ").join(statements)))


def with_margin(sequence: Sequence, last: int, called: bool, margin: int) -> tuple[int, bool]:
    """``margin`` increments further, within the sequence's limits; unchanged where there is no margin."""
    if not margin:
        return last, called
    moved = last + margin * sequence.increment
    return max(sequence.minimum, min(sequence.maximum, moved)), True


def _read(run: Run, side: Side) -> dict[Place, Sequence]:
    return read_sequences(run.executor.connection(side), [table.name for table in run.tables(side)])
