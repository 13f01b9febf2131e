"""Generated for the open side: triggers that note the keys a transaction writes, and the function that reads them.

Only keys are noted, and the rows are read once, before the commit: so it does not matter how a row came to be what it
is, and a row that was written a hundred times is carried once.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from migrator.lockstep.shapes import PINNED, Shape, column, comma, matches, text, typed, typed_key

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
#: Keys of one statement, and characters of all of a transaction's in one table, that are noted in a setting.
FEW_KEYS, SHORT_CHARS = 100, 8000
#: What that setting says once they are in the temporary table.
SPILLED = "*"


def touch_name(context: str, number: int) -> sql.Identifier:
    """The function that notes the keys of one table."""
    return sql.Identifier("carveout", f"lockstep_touch_{context}_{number}")


def collect_name(context: str) -> sql.Identifier:
    """The function that an application calls before it commits."""
    return sql.Identifier("carveout", f"lockstep_collect_{context}")


def touch_function(context: str, shape: Shape) -> sql.Composed:
    """Notes the keys of a statement's rows: a few in a setting of the transaction, many in a temporary table.

    Both are rolled back with a savepoint. A setting costs no row that is dead afterwards, and is copied by every
    statement that adds to it: so it is kept short, and says :data:`SPILLED` where the table has the keys.

    It runs as whoever writes, under whatever search path: so every name in it is qualified. To set either for every
    statement would cost more than all the rest.
    """
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER{pinned} AS $carveout$\n"
        "DECLARE noted pg_catalog.text := coalesce(pg_catalog.current_setting({noted}, true), '');"
        " fresh pg_catalog.text[]; stale pg_catalog.text[]; longer pg_catalog.text;\n"
        "BEGIN\n"
        "IF noted OPERATOR(pg_catalog.<>) {spilled} THEN\n"
        "IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\nfresh := {new_few};\n"
        "ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN\nfresh := {old_few};\n"
        "ELSE\nSELECT {new_few}, {old_few} INTO fresh, stale;\n"
        "IF stale OPERATOR(pg_catalog.<>) fresh THEN\nfresh := pg_catalog.array_cat(fresh, stale);\nEND IF;\n"
        "END IF;\n"
        "IF fresh OPERATOR(pg_catalog.=) '{{}}' THEN\nRETURN NULL;\nEND IF;\n"
        "longer := pg_catalog.concat_ws(',', nullif(noted, ''), pg_catalog.array_to_string(fresh, ','));\n"
        "IF pg_catalog.cardinality(fresh) OPERATOR(pg_catalog.<=) {few}"
        " AND pg_catalog.length(longer) OPERATOR(pg_catalog.<=) {short} THEN\n"
        "noted := pg_catalog.set_config({noted}, longer, true);\nRETURN NULL;\n"
        "END IF;\n"
        "PERFORM carveout.lockstep_spill();\n"
        "INSERT INTO pg_temp.carveout_touched SELECT {context}, {number},"
        " ARRAY(SELECT pg_catalog.json_array_elements_text(e.key))"
        " FROM pg_catalog.json_array_elements(pg_catalog.concat('[', noted, ']')::pg_catalog.json) e (key);\n"
        "noted := pg_catalog.set_config({noted}, {spilled}, true);\n"
        "END IF;\n"
        "IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\n{note} {keys} new_rows t;\n"
        "ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN\n{note} {keys} old_rows t;\n"
        "ELSE\n{note} {keys} new_rows t UNION ALL {keys} old_rows t;\n"
        "END IF;\n"
        "RETURN NULL;\n"
        "END $carveout$"
    ).format(
        name=touch_name(context, shape.number), pinned=sql.SQL("") if shape.key_is_plain else PINNED,
        noted=_noted(context, shape), spilled=sql.Literal(SPILLED), few=sql.Literal(FEW_KEYS),
        short=sql.Literal(SHORT_CHARS), context=sql.Literal(context), number=sql.Literal(shape.number),
        new_few=_few_keys(shape, "new_rows"), old_few=_few_keys(shape, "old_rows"), keys=_all_keys(context, shape),
        note=sql.SQL("INSERT INTO pg_temp.carveout_touched"),
    )  # fmt: skip


def _noted(context: str, shape: Shape) -> sql.Literal:
    """The transaction's setting that has the keys of one table, as JSON arrays with commas between them."""
    return sql.Literal(f"carveout.lockstep_keys_{context}_{shape.number}")


def _few_keys(shape: Shape, rows: str) -> sql.Composed:
    return sql.SQL("ARRAY(SELECT pg_catalog.json_build_array({})::pg_catalog.text FROM {} t LIMIT {})").format(
        comma([text(one.name) for one in shape.key]), sql.SQL(rows), sql.Literal(FEW_KEYS + 1)
    )


def _all_keys(context: str, shape: Shape) -> sql.Composed:
    return sql.SQL("SELECT {}, {}, ARRAY[{}]::pg_catalog.text[] FROM").format(
        sql.Literal(context), sql.Literal(shape.number), comma([text(one.name) for one in shape.key])
    )


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
    """Gives what the transaction wrote as opaque payloads, and writes its decision where there is any.

    A payload is ``[{"t": table, "g": rows that are gone, "r": [[key, row or null], ...]}, ...]``: all tables with a few
    keys are in one, a part of one with many is in one each.
    """
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}(OUT gid text, OUT payload text) RETURNS SETOF record LANGUAGE plpgsql"
        " SECURITY DEFINER SET search_path = pg_catalog SET enable_hashjoin = off SET enable_mergejoin = off{pinned}"
        " AS $carveout$\n"
        "#variable_conflict use_variable\n"  # the tables' columns are named as t's throughout
        "DECLARE noted text; image text; parts text; many boolean := false;\n"
        "BEGIN\n"
        "gid := current_setting({marked}, true);\n"
        "IF coalesce(gid, '') = '' THEN RETURN; END IF;\n"
        "{tables}\n"
        "IF parts IS NOT NULL THEN payload := '[' || parts || ']'; RETURN NEXT; END IF;\n"
        "IF NOT many THEN NULL;\n"
        "ELSIF EXISTS (SELECT FROM pg_temp.carveout_touched k WHERE k.context <> {context}) THEN\n"
        "DELETE FROM pg_temp.carveout_touched k WHERE k.context = {context};\n"
        "ELSE TRUNCATE pg_temp.carveout_touched;\nEND IF;\n"  # else dead rows pile up
        "IF many OR parts IS NOT NULL THEN\n"
        "INSERT INTO carveout.lockstep_decision (gid, context) VALUES (gid, {context});\n"
        "END IF;\n"
        "END $carveout$"
    ).format(
        name=collect_name(context), pinned=PINNED, context=sql.Literal(context),
        marked=sql.Literal(f"carveout.lockstep_gid_{context}"),
        tables=sql.SQL("\n").join(_collect_table(context, shape) for shape in shapes),
    )  # fmt: skip


def _collect_table(context: str, shape: Shape) -> sql.Composed:
    """The rows of one table: added to ``parts``, or returned where there are many."""
    part = sql.SQL("0") if shape.values_move else sql.SQL("(row_number() OVER () - 1) / {}").format(PART_ROWS)
    few = sql.SQL(
        "SELECT e.key, {} FROM json_array_elements(('[' || noted || ']')::json) e (key)"
    ).format(typed_key(shape.key, sql.SQL("e.key ->> {}")))  # fmt: skip
    many = sql.SQL(
        "SELECT to_json(d.key) AS key, {} FROM pg_temp.carveout_touched d WHERE d.context = {} AND d.tab = {}"
    ).format(typed_key(shape.key, sql.SQL("d.key[1 + {}]")), sql.Literal(context), sql.Literal(shape.number))
    return sql.SQL(
        "noted := current_setting({noted}, true);\n"
        "IF noted = {spilled} THEN\nmany := true;\n"
        "FOR payload IN SELECT '[' || {object} || ']' FROM (SELECT r.*, {part} AS part FROM ({many}) r) r GROUP BY part"
        " LOOP RETURN NEXT; END LOOP;\n"
        "ELSIF json_array_length(('[' || noted || ']')::json) = 1 THEN\n"  # most: not worth a join
        "image := (SELECT to_json(ARRAY[{texts}]::text[]) FROM {table} t WHERE ({key}) = ({one}));\n"
        "parts := concat_ws(',', parts, format('{{\"t\": %s, \"g\": %s, \"r\": [[%s, %s]]}}',"
        " {number}, (image IS NULL)::int, noted, coalesce(image, 'null')));\n"
        "ELSIF noted <> '' THEN\nparts := concat_ws(',', parts, (SELECT {object} FROM ({few}) r));\nEND IF;\n"
        "IF noted <> '' THEN\nnoted := set_config({noted}, '', true);\nEND IF;"
    ).format(
        noted=_noted(context, shape), spilled=sql.Literal(SPILLED), part=part, few=_rows(shape, few),
        many=_rows(shape, many), number=sql.Literal(shape.number), table=shape.table.identifier(),
        texts=comma([text(one.name) for one in shape.columns]),
        key=comma([column(one.name) for one in shape.key]),
        one=comma(typed(shape.key, sql.SQL("noted::json ->> {}"))),
        object=sql.SQL(
            "json_build_object('t', {}, 'g', count(*) FILTER (WHERE r.row IS NULL),"
            " 'r', json_agg(json_build_array(r.key, r.row)))::text"
        ).format(sql.Literal(shape.number)),
    )  # fmt: skip


def _rows(shape: Shape, keys: sql.Composable) -> sql.Composed:
    """Each key once, and the row that it has now as a JSON array, or NULL."""
    places = comma([sql.Identifier(f"k{place}") for place in range(len(shape.key))])
    return sql.SQL(
        "SELECT k.key, CASE WHEN num_nulls({first}) = 0 THEN to_json(ARRAY[{texts}]::text[]) END AS row"
        " FROM (SELECT DISTINCT ON ({places}) d.* FROM ({keys}) d) k LEFT JOIN {table} t ON {matches}"
    ).format(
        first=column(shape.key[0].name), texts=comma([text(one.name) for one in shape.columns]), places=places,
        keys=keys, table=shape.table.identifier(), matches=matches(shape.key, "k"),
    )  # fmt: skip
