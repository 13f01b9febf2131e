"""The guard of lockstep costs less: naming a transaction is not planned anew each time, later writes ask one setting.

Later writes change neither role nor search path: every name in the guard is qualified, since it runs as whoever writes.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = """
CREATE FUNCTION carveout.server_identity() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    known text := current_setting('carveout.server_identity', true);
BEGIN
    -- It cannot change under a session: a primary's timeline changes with a restart only, and a standby, which may be
    -- promoted, cannot be asked.
    IF coalesce(known, '') = '' THEN
        SELECT system_identifier || ':' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) INTO known
            FROM pg_control_system();
        PERFORM set_config('carveout.server_identity', known, false);
    END IF;
    RETURN known;
END $$;
COMMENT ON FUNCTION carveout.server_identity() IS 'System identifier and timeline of this server';

CREATE OR REPLACE FUNCTION carveout.lockstep_gid(context text) RETURNS text LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
BEGIN
    RETURN format('carveout:%s:%s:%s', context, carveout.server_identity(), pg_current_xact_id());
END $$;

CREATE FUNCTION carveout.lockstep_mark(context text, op text, schema_name text, table_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
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
    -- The mark goes before the first change, so that whoever reads the stream knows what follows. A savepoint that is
    -- rolled back takes both back.
    PERFORM set_config(marked, carveout.lockstep_gid(context), true);
    PERFORM pg_logical_emit_message(true, 'carveout', json_build_object(
        'context', context, 'kind', 'dual', 'id', current_setting(marked))::text);
END $$;
COMMENT ON FUNCTION carveout.lockstep_mark(text, text, text, text) IS
    'The first write of a transaction: refuses it, or marks the transaction in the stream';

CREATE OR REPLACE FUNCTION carveout.lockstep_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'TRUNCATE' OR coalesce(pg_catalog.current_setting(
        'carveout.lockstep_gid_' OPERATOR(pg_catalog.||) TG_ARGV[0], true), '') OPERATOR(pg_catalog.=) ''
    THEN
        PERFORM carveout.lockstep_mark(
            TG_ARGV[0], TG_OP, TG_TABLE_SCHEMA::pg_catalog.text, TG_TABLE_NAME::pg_catalog.text);
    END IF;
    RETURN NULL;
END $$
"""

#: As revision 0003 made them, written again: a revision never changes, and imports no other.
BEFORE = """
CREATE OR REPLACE FUNCTION carveout.lockstep_gid(context text) RETURNS text LANGUAGE sql
    SET search_path = pg_catalog AS $$
    SELECT format('carveout:%s:%s:%s:%s', context, (SELECT system_identifier FROM pg_control_system()),
                  left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_xact_id())
$$;
CREATE OR REPLACE FUNCTION carveout.lockstep_guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    context constant text := TG_ARGV[0];
    marked constant text := 'carveout.lockstep_gid_' || context;
BEGIN
    IF coalesce(current_setting('carveout.lockstep_' || context, true), '') <> 'on' THEN
        RAISE EXCEPTION 'carveout: context % is in lockstep, and this write to %.% does not come through the shim',
            context, TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'read_only_sql_transaction',
                  HINT = format('adopt the shim, or end lockstep: carveout dual-write %s off', context);
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'carveout: TRUNCATE of %.% cannot be done in lockstep', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'feature_not_supported',
                  HINT = format('use DELETE, or end lockstep: carveout dual-write %s off', context);
    END IF;
    -- The mark goes before the first change, so that whoever reads the stream knows what follows. A savepoint that is
    -- rolled back takes both back.
    IF coalesce(current_setting(marked, true), '') = '' THEN
        PERFORM set_config(marked, carveout.lockstep_gid(context), true);
        PERFORM pg_logical_emit_message(true, 'carveout', json_build_object(
            'context', context, 'kind', 'dual', 'id', current_setting(marked))::text);
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(BEFORE)
    op.execute("DROP FUNCTION carveout.lockstep_mark(text, text, text, text), carveout.server_identity()")
