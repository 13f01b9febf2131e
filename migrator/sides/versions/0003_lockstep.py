"""Lockstep: the route's mode, the application's side of the protocol, and the decisions of its transactions."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = """
ALTER TABLE carveout.route
    ADD COLUMN mode text NOT NULL DEFAULT 'single' CHECK (mode IN ('single', 'observe', 'lockstep')),
    ADD COLUMN mode_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN service_reads real NOT NULL DEFAULT 0 CHECK (service_reads BETWEEN 0 AND 100);
COMMENT ON COLUMN carveout.route.mode IS
    'single: one side is written; observe: the same, and writers without the shim are noted; lockstep: both are';
COMMENT ON COLUMN carveout.route.service_reads IS 'Percent of read-only transactions that go to the service side';

CREATE TABLE carveout.lockstep_decision (
    gid text PRIMARY KEY,
    context text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE carveout.lockstep_decision IS
    'Written by each lockstep transaction on the open side: the row is there exactly when that transaction committed';

CREATE FUNCTION carveout.lockstep_begin(context text) RETURNS void LANGUAGE plpgsql AS $$
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
COMMENT ON FUNCTION carveout.lockstep_begin(text) IS
    'First call of a lockstep transaction on the open side: promises to ship what the transaction writes';

CREATE FUNCTION carveout.lockstep_session() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
BEGIN
    PERFORM set_config('session_replication_role', 'replica', false);
END $$;
COMMENT ON FUNCTION carveout.lockstep_session() IS
    'First call on a connection that ships: triggers have fired on the open side and must not fire again. Once, since'
    ' every change of that setting makes the session forget its plans';
REVOKE ALL ON FUNCTION carveout.lockstep_session() FROM PUBLIC;

CREATE FUNCTION carveout.lockstep_gid(context text) RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT format('carveout:%s:%s:%s:%s', context, (SELECT system_identifier FROM pg_control_system()),
                  left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_xact_id())
$$;
COMMENT ON FUNCTION carveout.lockstep_gid(text) IS
    'Names this transaction for PREPARE on the other side: context, system identifier, timeline, transaction id';

CREATE FUNCTION carveout.lockstep_guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
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
END $$;
COMMENT ON FUNCTION carveout.lockstep_guard() IS 'Refuses writes that would reach one side only; argument: context';

CREATE FUNCTION carveout.lockstep_census() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    context constant text := TG_ARGV[0];
    noted constant text := 'carveout.noted_' || context;
BEGIN
    IF coalesce(current_setting('carveout.gated_' || context, true), '') <> 'on'
        AND coalesce(current_setting(noted, true), '') = ''
    THEN
        PERFORM set_config(noted, 'on', true);
        PERFORM pg_logical_emit_message(true, 'carveout', json_build_object(
            'context', context, 'kind', 'unshimmed', 'id', '',
            'writer', json_build_array(TG_TABLE_SCHEMA, TG_TABLE_NAME, session_user,
                                       current_setting('application_name')))::text);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION carveout.lockstep_census() IS
    'Notes in the stream, once per transaction, a writer that does not come through the shim; argument: context';
"""

DROP = """
DROP FUNCTION carveout.lockstep_session(), carveout.lockstep_census(),
    carveout.lockstep_guard(), carveout.lockstep_gid(text),
    carveout.lockstep_begin(text);
DROP TABLE carveout.lockstep_decision;
ALTER TABLE carveout.route DROP COLUMN mode, DROP COLUMN mode_since, DROP COLUMN service_reads
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(DROP)
