"""Sequences at a switch: the real ``last_value`` and ``is_called``, plus a margin.

``max(id)`` would hand out the ids of deleted rows again, and values that sessions have cached are never in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from contexts.errors import RefusedError
from contexts.model import Side
from migrator.run import Run


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence that fills a column of a moved table."""

    schema: str
    name: str
    #: Schema, table and column that it fills: the same on both sides, whatever the sequence is called there.
    fills: tuple[str, str, str]
    increment: int
    minimum: int
    maximum: int

    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name."""
        return sql.Identifier(self.schema, self.name)


Pairs = list[tuple[Sequence, Sequence]]

_SEQUENCES = sql.SQL(
    "SELECT DISTINCT n.nspname, s.relname, tn.nspname, t.relname, a.attname, q.seqincrement, q.seqmin, q.seqmax"
    " FROM pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace"
    " JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " LEFT JOIN pg_attrdef ad ON ad.adrelid = t.oid AND ad.adnum = a.attnum"
    " JOIN pg_depend d ON (d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
    "   AND d.refobjid = t.oid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i'))"
    "   OR (d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass)"
    " JOIN pg_class s ON s.relkind = 'S'"
    "   AND s.oid = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid ELSE d.refobjid END"
    " JOIN pg_namespace n ON n.oid = s.relnamespace JOIN pg_sequence q ON q.seqrelid = s.oid"
    " WHERE t.oid = ANY (%s::oid[]) ORDER BY 3, 4, 5"
)


def read(run: Run, side: Side) -> list[Sequence]:
    """The sequences that fill columns of the context's tables: owned ones, identities, and those of defaults."""
    rows = run.executor.read(side, _SEQUENCES, ([table.oid for table in run.tables(side)],))
    return [Sequence(r[0], r[1], (r[2], r[3], r[4]), *r[5:]) for r in rows]


def pair(run: Run, from_side: Side, to_side: Side) -> Pairs:
    """Each sequence of ``from_side`` with the one of ``to_side`` that fills the same column.

    :raises RefusedError: a sequence has no counterpart.
    """
    targets = {sequence.fills: sequence for sequence in read(run, to_side)}
    sources = read(run, from_side)
    if missing := [".".join(source.fills) for source in sources if source.fills not in targets]:
        raise RefusedError(
            f"context {run.name!r}: no sequence on the {to_side} side fills {', '.join(missing)}",
            unchanged="nothing was changed",
            next_step=f"carveout schema check {run.name}",
        )
    return [(source, targets[source.fills]) for source in sources]


def carry(run: Run, pairs: Pairs, from_side: Side, to_side: Side) -> None:
    """Set the sequences of ``to_side`` from those of ``from_side``: one round trip to each."""
    if not pairs:
        return
    values = run.executor.read(
        from_side,
        sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(sql.Literal(number), source.identifier())
            for number, (source, _) in enumerate(pairs)
        ),
    )
    margin = run.context.options.sequence_margin
    settings = []
    for number, last, called in values:
        source, target = pairs[number]
        value, is_called = _with_margin(source, last, called, margin)
        name = sql.Literal(target.identifier().as_string())
        settings.append(sql.SQL("setval({}::regclass, {}, {})").format(name, value, is_called))
    run.executor.write(to_side, sql.SQL("SELECT {}").format(sql.SQL(", ").join(settings)))


def _with_margin(sequence: Sequence, last: int, called: bool, margin: int) -> tuple[int, bool]:
    if not margin:
        return last, called
    moved = last + margin * sequence.increment
    return max(sequence.minimum, min(sequence.maximum, moved)), True
