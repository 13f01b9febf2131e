"""Lockstep costs less: a transaction begins without a temporary table, and is marked by simple expressions.

The keys of a transaction are in a setting now, in the temporary table only where they are many. A context that is in
lockstep meanwhile has trigger functions from before: those are given what they need until it is entered again.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = """
CREATE FUNCTION carveout.lockstep_spill() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
BEGIN
    IF to_regclass('pg_temp.carveout_touched') IS NULL THEN
        CREATE TEMPORARY TABLE carveout_touched (context text, tab int, key text[]);
        GRANT SELECT, INSERT, DELETE, TRUNCATE ON pg_temp.carveout_touched TO PUBLIC;
    END IF;
END $$;
COMMENT ON FUNCTION carveout.lockstep_spill() IS
    'Makes the session''s table for the keys of a transaction that writes many rows';

CREATE OR REPLACE FUNCTION carveout.lockstep_begin(context text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    done text;
BEGIN
    done := pg_catalog.set_config('carveout.lockstep_' OPERATOR(pg_catalog.||) context, 'on', true);
END $$;

-- The first write of a transaction. Assignments are evaluated without a query of their own, PERFORM is not.
CREATE OR REPLACE FUNCTION carveout.lockstep_mark(context text, op text, schema_name text, table_name text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    gid text;
    server text := current_setting('carveout.server_identity', true);
    sent pg_lsn;
BEGIN
    IF coalesce(current_setting('carveout.lockstep_' || context, true), '') <> 'on' THEN
        RAISE EXCEPTION 'carveout: context % is in lockstep, and this write to %.% does not come through the shim',
            context, schema_name, table_name
            USING ERRCODE = 'read_only_sql_transaction',
                  HINT = format('adopt the shim, or end lockstep: carveout dual-write %s off', context);
    END IF;
    IF op = 'TRUNCATE' THEN
        RAISE EXCEPTION 'carveout: TRUNCATE of %.% cannot be done in lockstep', schema_name, table_name
            USING ERRCODE = 'feature_not_supported',
                  HINT = format('use DELETE, or end lockstep: carveout dual-write %s off', context);
    END IF;
    IF coalesce(server, '') = '' THEN
        server := carveout.server_identity();
    END IF;
    -- The mark goes before the first change, so that whoever reads the stream knows what follows. A savepoint that is
    -- rolled back takes both back.
    gid := set_config('carveout.lockstep_gid_' || context,
                      format('carveout:%s:%s:%s', context, server, pg_current_xact_id()), true);
    sent := pg_logical_emit_message(true, 'carveout', json_build_object(
        'context', context, 'kind', 'dual', 'id', gid)::text);
END $$;
"""

#: Trigger functions from before expect the table that lockstep_begin made.
OLD_TRIGGERS = r"""
DO $$
DECLARE
    definition text;
BEGIN
    FOR definition IN
        SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'carveout'::regnamespace AND proname LIKE 'lockstep\_touch\_%'
            AND prosrc NOT LIKE '%lockstep_spill%'
    LOOP
        EXECUTE regexp_replace(definition, E'\nBEGIN\n', E'\nBEGIN\nPERFORM carveout.lockstep_spill();\n');
    END LOOP;
END $$
"""

#: As revisions 0003 and 0007 made them, written again: a revision never changes, and imports no other.
BEFORE = """
CREATE OR REPLACE FUNCTION carveout.lockstep_begin(context text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('carveout.lockstep_' || context, 'on', true);
    IF pg_catalog.to_regclass('pg_temp.carveout_touched') IS NULL THEN
        IF NOT pg_catalog.current_setting('transaction_read_only')::boolean THEN
            CREATE TEMPORARY TABLE carveout_touched (context text, tab int, key text[]);
            GRANT SELECT, INSERT, DELETE, TRUNCATE ON pg_temp.carveout_touched TO PUBLIC;
        END IF;
    -- Not ON COMMIT DELETE ROWS: that truncates at every commit, and makes every plan of the session anew.
    ELSIF pg_catalog.pg_relation_size('pg_temp.carveout_touched') > 65536 THEN
        TRUNCATE pg_temp.carveout_touched;
    END IF;
END $$;
CREATE OR REPLACE FUNCTION carveout.lockstep_mark(context text, op text, schema_name text, table_name text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    marked constant text := 'carveout.lockstep_gid_' || context;
BEGIN
    IF coalesce(current_setting('carveout.lockstep_' || context, true), '') <> 'on' THEN
        RAISE EXCEPTION 'carveout: context % is in lockstep, and this write to %.% does not come through the shim',
            context, schema_name, table_name
            USING ERRCODE = 'read_only_sql_transaction',
                  HINT = format('adopt the shim, or end lockstep: carveout dual-write %s off', context);
    END IF;
    IF op = 'TRUNCATE' THEN
        RAISE EXCEPTION 'carveout: TRUNCATE of %.% cannot be done in lockstep', schema_name, table_name
            USING ERRCODE = 'feature_not_supported',
                  HINT = format('use DELETE, or end lockstep: carveout dual-write %s off', context);
    END IF;
    PERFORM set_config(marked, carveout.lockstep_gid(context), true);
    PERFORM pg_logical_emit_message(true, 'carveout', json_build_object(
        'context', context, 'kind', 'dual', 'id', current_setting(marked))::text);
END $$
"""


def upgrade() -> None:
    op.execute(STATEMENTS)
    op.execute(OLD_TRIGGERS)


def downgrade() -> None:
    op.execute(BEFORE)
    op.execute("DROP FUNCTION carveout.lockstep_spill()")
