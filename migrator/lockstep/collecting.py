"""Generated for the open side: triggers that note the keys a transaction writes, and the function that reads them.

Only keys are noted, and the rows are read once, before the commit: so it does not matter how a row came to be what it
is, and a row that was written a hundred times is carried once.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from migrator.lockstep.shapes import PINNED, Shape, column, comma, matches, text, typed_key

GUARD = "carveout_lockstep_guard"
CENSUS = "carveout_lockstep_census"
#: One trigger per event: a transition table belongs to one event.
TOUCH = {
    "INSERT": "carveout_lockstep_insert",
    "UPDATE": "carveout_lockstep_update",
    "DELETE": "carveout_lockstep_delete",
}
_REFERENCING = {
    "INSERT": "REFERENCING NEW TABLE AS new_rows",
    "UPDATE": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "REFERENCING OLD TABLE AS old_rows",
}
#: Rows in one payload, where the table allows it to be cut.
PART_ROWS = 1000


def touch_name(context: str, number: int) -> sql.Identifier:
    """The function that notes the keys of one table."""
    return sql.Identifier("carveout", f"lockstep_touch_{context}_{number}")


def collect_name(context: str) -> sql.Identifier:
    """The function that an application calls before it commits."""
    return sql.Identifier("carveout", f"lockstep_collect_{context}")


def touch_function(context: str, shape: Shape) -> sql.Composed:
    """Notes the keys of a statement's rows in the session's temporary table.

    It runs as whoever writes, under whatever search path: so every name in it is qualified. To set either for every
    statement would cost more than all the rest.
    """
    keys = sql.SQL("SELECT {}, {}, ARRAY[{}]::pg_catalog.text[] FROM ").format(
        sql.Literal(context), sql.Literal(shape.number), comma([text(one.name) for one in shape.key])
    )
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER{pinned} AS $carveout$\n"
        "BEGIN\n"
        "IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\n{note} {keys} new_rows t;\n"
        "ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN\n{note} {keys} old_rows t;\n"
        "ELSE\n{note} {keys} new_rows t UNION ALL {keys} old_rows t;\n"
        "END IF;\n"
        "RETURN NULL;\n"
        "END $carveout$"
    ).format(
        name=touch_name(context, shape.number), pinned=sql.SQL("") if shape.key_is_plain else PINNED, keys=keys,
        note=sql.SQL("INSERT INTO pg_temp.carveout_touched"),
    )  # fmt: skip


def touch_triggers(context: str, number: int, table: sql.Composable) -> list[sql.Composed]:
    """The three triggers of one table or partition, disabled."""
    create = sql.SQL("CREATE OR REPLACE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()")
    function = touch_name(context, number)
    made = [
        create.format(sql.Identifier(name), sql.SQL(event), table, sql.SQL(_REFERENCING[event]), function)
        for event, name in TOUCH.items()
    ]
    return [*made, *(disable(table, name) for name in TOUCH.values())]


def guard_triggers(context: str, table: sql.Composable) -> list[sql.Composed]:
    """The trigger that refuses other writers and the one that only notes them, disabled."""
    made = [
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE{} ON {} FOR EACH STATEMENT"
            " EXECUTE FUNCTION {}({})"
        ).format(sql.Identifier(name), sql.SQL(also), table, sql.Identifier("carveout", function), sql.Literal(context))
        for name, function, also in (
            (GUARD, "lockstep_guard", " OR TRUNCATE"),
            (CENSUS, "lockstep_census", " OR TRUNCATE"),
        )
    ]
    return [*made, disable(table, GUARD), disable(table, CENSUS)]


def enable(table: sql.Composable, name: str) -> sql.Composed:
    """Let a trigger fire."""
    return sql.SQL("ALTER TABLE {} ENABLE TRIGGER {}").format(table, sql.Identifier(name))


def disable(table: sql.Composable, name: str) -> sql.Composed:
    """Keep a trigger from firing."""
    return sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table, sql.Identifier(name))


def collect_function(context: str, shapes: Sequence[Shape]) -> sql.Composed:
    """Gives what the transaction wrote as opaque payloads, and writes its decision where there is any."""
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}(OUT gid text, OUT payload text) RETURNS SETOF record LANGUAGE plpgsql"
        " SECURITY DEFINER SET search_path = pg_catalog SET enable_hashjoin = off SET enable_mergejoin = off{pinned}"
        " AS $carveout$\n"
        "DECLARE touched int[];\n"
        "BEGIN\n"
        "IF to_regclass('pg_temp.carveout_touched') IS NULL THEN RETURN; END IF;\n"
        "touched := ARRAY(SELECT DISTINCT k.tab FROM pg_temp.carveout_touched k WHERE k.context = {context});\n"
        "IF touched = '{{}}' THEN RETURN; END IF;\n"
        "gid := current_setting({marked});\n"
        "INSERT INTO carveout.lockstep_decision (gid, context) VALUES (gid, {context});\n"
        "{tables}\n"
        "DELETE FROM pg_temp.carveout_touched k WHERE k.context = {context};\n"
        "END $carveout$"
    ).format(
        name=collect_name(context), pinned=PINNED, context=sql.Literal(context),
        marked=sql.Literal(f"carveout.lockstep_gid_{context}"),
        tables=sql.SQL("\n").join(_collect_table(context, shape) for shape in shapes),
    )  # fmt: skip


def _collect_table(context: str, shape: Shape) -> sql.Composed:
    """``{"t": number, "r": [[key, row or null], ...]}`` for each part of a table's rows."""
    part = sql.SQL("0") if shape.values_move else sql.SQL("(row_number() OVER () - 1) / {}").format(PART_ROWS)
    places = comma([sql.Identifier(f"k{place}") for place in range(len(shape.key))])
    return sql.SQL(
        "IF {number} = ANY (touched) THEN FOR payload IN"
        " SELECT json_build_object('t', {number}, 'r', json_agg(p.entry))::text FROM ("
        "SELECT json_build_array(to_json(k.key),"
        " CASE WHEN num_nulls({first}) = 0 THEN to_json(ARRAY[{texts}]::text[]) END) AS entry, {part} AS part"
        " FROM (SELECT DISTINCT ON ({places}) d.* FROM (SELECT touched.key, {typed}"
        " FROM pg_temp.carveout_touched touched WHERE touched.context = {context} AND touched.tab = {number}) d) k"
        " LEFT JOIN {table} t ON {matches}) p GROUP BY p.part LOOP RETURN NEXT; END LOOP; END IF;"
    ).format(
        number=sql.Literal(shape.number), first=column(shape.key[0].name),
        texts=comma([text(one.name) for one in shape.columns]), part=part, places=places,
        typed=typed_key(shape.key, sql.SQL("touched.key")), context=sql.Literal(context),
        table=shape.table.identifier(), matches=matches(shape.key, "k"),
    )  # fmt: skip
