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
from migrator.sides.gate import gate_table


def apply_name(context: str) -> sql.Identifier:
    """The function that an application calls with what :func:`collect_function` gave."""
    return sql.Identifier("carveout", f"lockstep_apply_{context}")


def apply_function(context: str, shapes: Sequence[Shape]) -> sql.Composed:
    """Writes one payload; refuses while the stream has not brought everything from before lockstep."""
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}(gid text, payload text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog SET carveout.mover = on"
        " SET enable_hashjoin = off SET enable_mergejoin = off{pinned} AS $carveout$\n"
        "#variable_conflict use_column\n"  # a table may have columns of any name
        "DECLARE parts constant jsonb := payload::jsonb; part jsonb; entries jsonb;"
        " gone bigint; kept bigint; known bigint; fresh bigint;\n"
        "BEGIN\n"
        "IF current_setting('session_replication_role') <> 'replica' THEN\n"
        "RAISE EXCEPTION 'carveout: this connection has not called carveout.lockstep_session()';\n"
        "END IF;\n"
        "IF current_setting('transaction_isolation') <> 'read committed' THEN\n"
        "RAISE EXCEPTION 'carveout: rows are shipped in a transaction that is READ COMMITTED';\n"
        "END IF;\n"
        "LOCK TABLE {gate} IN ROW EXCLUSIVE MODE;\n"  # see agreed.py
        "IF NOT EXISTS (SELECT FROM carveout.lockstep l JOIN carveout.marker m ON m.context = l.context"
        " AND m.id = l.marker WHERE l.context = {context}) THEN\n"
        "RAISE EXCEPTION 'carveout: context {raw} is not in lockstep yet'"
        " USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'try again';\n"
        "END IF;\n"
        "FOR place IN 0 .. jsonb_array_length(parts) - 1 LOOP\n"
        "part := parts -> place; entries := part -> 'r';\n"
        "gone := part ->> 'g'; kept := jsonb_array_length(entries) - gone;\n"
        "CASE (part ->> 't')::int\n"
        "{tables}\n"
        "ELSE RAISE EXCEPTION 'carveout: context {raw} has no table %', part ->> 't';\n"
        "END CASE;\n"
        "END LOOP;\n"
        "END $carveout$"
    ).format(
        name=apply_name(context), pinned=PINNED, context=sql.Literal(context), raw=sql.SQL(context),
        gate=gate_table(context),
        tables=sql.SQL("\n").join(
            sql.SQL("WHEN {} THEN\n{}").format(sql.Literal(shape.number), _write(context, shape)) for shape in shapes
        ),
    )  # fmt: skip


def _write(context: str, shape: Shape) -> sql.Composed:
    upsert = _upsert(shape)
    if shape.values_move:
        upsert = sql.SQL(
            "BEGIN\n{}\nEXCEPTION WHEN unique_violation OR exclusion_violation THEN\n{}\n{}\n{}\n{}\nEND;"
        ).format(
            upsert, _wait(context), _remember(shape, gone=False, again=True), _delete(shape, only_gone=False),
            _insert(shape, on_conflict=sql.SQL("")),
        )  # fmt: skip
    return sql.SQL("{}\nIF kept > 0 THEN\n{}\n{}\nEND IF;\n{}").format(
        _delete_gone(context, shape), _remember(shape, gone=False), upsert, _note(shape)
    )


def _delete_gone(context: str, shape: Shape) -> sql.Composed:
    """Delete what is gone; a row that is not there may have been inserted by a transaction that is prepared.

    That one has committed on the open side, or this one could not have deleted its row there.
    """
    return sql.SQL(
        "IF gone > 0 THEN\n{remember}\n{delete}\nGET DIAGNOSTICS known = ROW_COUNT;\n"
        "IF known < gone THEN\n{wait}\n{again}\n{delete}\nEND IF;\nEND IF;"
    ).format(
        remember=_remember(shape, gone=True), again=_remember(shape, gone=True, again=True), wait=_wait(context),
        delete=_delete(shape, only_gone=True),
    )  # fmt: skip


def _wait(context: str) -> sql.Composed:
    return sql.SQL("PERFORM carveout.lockstep_wait({});").format(sql.Literal(context))


def _upsert(shape: Shape) -> sql.Composed:
    """Write the rows that are there; of a watched table only where each was just remembered, or is new.

    Else one was inserted by a transaction that was prepared and has ended while this one waited for it.
    """
    upsert = _insert(shape, on_conflict=_on_conflict(shape))
    if not shape.watched:
        return upsert
    return sql.SQL(
        "{insert}\nGET DIAGNOSTICS fresh = ROW_COUNT;\n"
        "IF fresh + known < kept THEN\n"
        "RAISE EXCEPTION 'carveout: a row was not yet there' USING ERRCODE = 'object_not_in_prerequisite_state',"
        " HINT = 'try again';\n"
        "END IF;\n"
        "IF fresh < kept THEN\n{upsert}\nEND IF;"
    ).format(
        upsert=upsert,
        insert=_insert(shape, on_conflict=sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(_key_columns(shape))),
    )  # fmt: skip


def _remember(shape: Shape, *, gone: bool, again: bool = False) -> sql.SQL | sql.Composed:
    """The rows of a watched table as they are before they are written, each once; waits for who is at them."""
    if not shape.watched:
        return sql.SQL("")
    missing = sql.SQL(
        " AND NOT EXISTS (SELECT FROM carveout.lockstep_ledger l"
        " WHERE l.gid = $1 AND l.tab = {} AND l.key = k.key AND l.before IS NOT NULL)"
    ).format(sql.Literal(shape.number))
    return sql.SQL(
        "INSERT INTO carveout.lockstep_ledger (gid, tab, key, before)"
        " SELECT $1, {number}, k.key, ARRAY[{texts}]::text[] FROM {keys} JOIN {table} t ON {matches}"
        " WHERE jsonb_typeof(k.entry -> 1) = {kind}{missing} FOR UPDATE OF t;\nGET DIAGNOSTICS known = ROW_COUNT;"
    ).format(
        number=sql.Literal(shape.number), texts=comma([text(one.name) for one in shape.columns]), keys=_keys(shape),
        table=shape.table.identifier(), matches=matches(shape.key, "k"),
        kind=sql.Literal("null" if gone else "array"), missing=missing if again else sql.SQL(""),
    )  # fmt: skip


def _keys(shape: Shape) -> sql.Composed:
    """The payload's entries with their keys as texts and typed, as ``k``."""
    element = sql.SQL("e.entry -> 0 ->> {}")
    texts = comma([element.format(sql.Literal(place)) for place in range(len(shape.key))])
    return sql.SQL("(SELECT e.entry, ARRAY[{}] AS key, {} FROM jsonb_array_elements(entries) e (entry)) k").format(
        texts, typed_key(shape.key, element)
    )


def _delete(shape: Shape, *, only_gone: bool) -> sql.Composed:
    gone = sql.SQL(" AND jsonb_typeof(k.entry -> 1) = 'null'") if only_gone else sql.SQL("")
    return sql.SQL("DELETE FROM {} t USING {} WHERE {}{};").format(
        shape.table.identifier(), _keys(shape), matches(shape.key, "k"), gone
    )


def _insert(shape: Shape, *, on_conflict: sql.Composable) -> sql.Composed:
    names = [sql.Identifier(one.name) for one in shape.columns]
    values = [
        sql.SQL("(e.entry -> 1 ->> {})::{}").format(sql.Literal(place), sql.SQL(one.type_sql))
        for place, one in enumerate(shape.columns)
    ]
    insert = sql.SQL(
        "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM jsonb_array_elements(entries) e (entry)"
        " WHERE jsonb_typeof(e.entry -> 1) = 'array'{};"
    )
    return insert.format(shape.table.identifier(), comma(names), comma(values), on_conflict)


def _on_conflict(shape: Shape) -> sql.Composed:
    key = _key_columns(shape)
    # The key too: equal keys may have another text (1.0 and 1.00). An identity column cannot be updated on either side.
    sets = comma([
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(one.name))
        for one in shape.columns if one.identity is not Identity.ALWAYS
    ])  # fmt: skip
    if not sets.as_string():
        return sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(key)
    return sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}").format(key, sets)


def _key_columns(shape: Shape) -> sql.Composed:
    return comma([sql.Identifier(one.name) for one in shape.key])


def _note(shape: Shape) -> sql.Composed:
    """The rows as they are here now, into the ledger."""
    hashes = [
        sql.SQL("substr(sha256(convert_to({}, 'UTF8')), 1, 8)").format(text(one.name)) for one in shape.columns
    ]  # fmt: skip
    return sql.SQL(
        "INSERT INTO carveout.lockstep_ledger (gid, tab, key, hashes)"
        " SELECT $1, {number}, k.key, CASE WHEN num_nulls({first}) = 0 THEN ARRAY[{hashes}]::bytea[] END"
        " FROM {keys} LEFT JOIN {table} t ON {matches};"
    ).format(
        number=sql.Literal(shape.number), first=column(shape.key[0].name), hashes=comma(hashes), keys=_keys(shape),
        table=shape.table.identifier(), matches=matches(shape.key, "k"),
    )  # fmt: skip
