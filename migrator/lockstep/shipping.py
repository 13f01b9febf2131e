"""Generated for the closed side: the function that takes an application's payloads and writes their rows.

It runs as its owner, with our mark, in a replica session, as the stream does: what triggers wrote
on the open side is in the payload already. Then it reads every row back into the ledger, which the audit compares with
the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from contexts.catalog import Identity
from migrator.lockstep.shapes import PINNED, Shape, column, comma, matches, text, typed_key


def apply_name(context: str) -> sql.Identifier:
    """The function that an application calls with what :func:`collect_function` gave."""
    return sql.Identifier("carveout", f"lockstep_apply_{context}")


def apply_function(context: str, shapes: Sequence[Shape]) -> sql.Composed:
    """Writes one payload; refuses while the stream has not brought everything from before lockstep."""
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}(gid text, payload text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog SET carveout.mover = on"
        " SET enable_hashjoin = off SET enable_mergejoin = off{pinned} AS $carveout$\n"
        "DECLARE entries constant jsonb := payload::jsonb;\n"
        "BEGIN\n"
        "IF current_setting('session_replication_role') <> 'replica' THEN\n"
        "RAISE EXCEPTION 'carveout: this connection has not called carveout.lockstep_session()';\n"
        "END IF;\n"
        "IF NOT EXISTS (SELECT FROM carveout.lockstep l JOIN carveout.marker m ON m.context = l.context"
        " AND m.id = l.marker WHERE l.context = {context}) THEN\n"
        "RAISE EXCEPTION 'carveout: context {raw} is not in lockstep yet'"
        " USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'try again';\n"
        "END IF;\n"
        "CASE (entries ->> 't')::int\n"
        "{tables}\n"
        "ELSE RAISE EXCEPTION 'carveout: context {raw} has no table %', entries ->> 't';\n"
        "END CASE;\n"
        "END $carveout$"
    ).format(
        name=apply_name(context), pinned=PINNED, context=sql.Literal(context), raw=sql.SQL(context),
        tables=sql.SQL("\n").join(
            sql.SQL("WHEN {} THEN\n{}").format(sql.Literal(shape.number), _write(shape)) for shape in shapes
        ),
    )  # fmt: skip


def _write(shape: Shape) -> sql.Composed:
    upsert = _insert(shape, on_conflict=True)
    if shape.values_move:
        upsert = sql.SQL("BEGIN\n{}\nEXCEPTION WHEN unique_violation OR exclusion_violation THEN\n{}\n{}\nEND;").format(
            upsert, _delete(shape, only_gone=False), _insert(shape, on_conflict=False)
        )
    return sql.SQL("{}\n{}\n{}").format(_delete(shape, only_gone=True), upsert, _note(shape))


def _keys(shape: Shape) -> sql.Composed:
    """The payload's entries with their keys typed, as ``k``."""
    return sql.SQL(
        "(SELECT d.entry, d.key, {} FROM (SELECT e.entry, ARRAY(SELECT jsonb_array_elements_text(e.entry -> 0)) AS key"
        " FROM jsonb_array_elements(entries -> 'r') e (entry)) d) k"
    ).format(typed_key(shape.key, sql.SQL("d.key")))


def _delete(shape: Shape, *, only_gone: bool) -> sql.Composed:
    gone = sql.SQL(" AND jsonb_typeof(k.entry -> 1) = 'null'") if only_gone else sql.SQL("")
    return sql.SQL("DELETE FROM {} t USING {} WHERE {}{};").format(
        shape.table.identifier(), _keys(shape), matches(shape.key, "k"), gone
    )


def _insert(shape: Shape, *, on_conflict: bool) -> sql.Composed:
    names = [sql.Identifier(one.name) for one in shape.columns]
    values = [
        sql.SQL("(e.entry -> 1 ->> {})::{}").format(sql.Literal(place), sql.SQL(one.type_sql))
        for place, one in enumerate(shape.columns)
    ]
    insert = sql.SQL(
        "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM jsonb_array_elements(entries -> 'r') e (entry)"
        " WHERE jsonb_typeof(e.entry -> 1) = 'array'{};"
    )
    clause = _on_conflict(shape) if on_conflict else sql.SQL("")
    return insert.format(shape.table.identifier(), comma(names), comma(values), clause)


def _on_conflict(shape: Shape) -> sql.Composed:
    key = comma([sql.Identifier(one.name) for one in shape.key])
    # The key too: equal keys may have another text (1.0 and 1.00). An identity column cannot be updated on either side.
    sets = comma([
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(one.name))
        for one in shape.columns if one.identity is not Identity.ALWAYS
    ])  # fmt: skip
    if not sets.as_string():
        return sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(key)
    return sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}").format(key, sets)


def _note(shape: Shape) -> sql.Composed:
    """The rows as they are here now, into the ledger."""
    hashes = [
        sql.SQL("substr(sha256(convert_to({}, 'UTF8')), 1, 8)").format(text(one.name)) for one in shape.columns
    ]  # fmt: skip
    return sql.SQL(
        "INSERT INTO carveout.lockstep_ledger (gid, tab, key, hashes)"
        " SELECT gid, {number}, k.key, CASE WHEN num_nulls({first}) = 0 THEN ARRAY[{hashes}]::bytea[] END"
        " FROM {keys} LEFT JOIN {table} t ON {matches};"
    ).format(
        number=sql.Literal(shape.number), first=column(shape.key[0].name), hashes=comma(hashes), keys=_keys(shape),
        table=shape.table.identifier(), matches=matches(shape.key, "k"),
    )  # fmt: skip
