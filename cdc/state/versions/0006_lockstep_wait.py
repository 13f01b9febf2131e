"""Lockstep: how a transaction that ships waits for those that are prepared."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = """
CREATE FUNCTION carveout.lockstep_wait(context text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    waiting constant text[] := ARRAY(SELECT gid FROM pg_prepared_xacts
        WHERE database = current_database() AND starts_with(gid, 'carveout:' || context || ':'));
    patience constant interval := nullif(current_setting('lock_timeout'), '0')::interval;
    began constant timestamptz := clock_timestamp();
BEGIN
    WHILE EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = ANY (waiting)) LOOP
        IF clock_timestamp() > began + patience THEN
            RAISE EXCEPTION 'carveout: transactions of context % stay prepared', context
                USING ERRCODE = 'lock_not_available', HINT = format('carveout doctor %s', context);
        END IF;
        PERFORM pg_sleep(0.001);
    END LOOP;
END $$;
COMMENT ON FUNCTION carveout.lockstep_wait(text) IS
    'Waits until what is prepared now for the context is decided, for lock_timeout at most. A row that a prepared'
    ' transaction has inserted is not seen, so nothing waits for it by itself. None of those waits for the caller';
REVOKE ALL ON FUNCTION carveout.lockstep_wait(text) FROM PUBLIC;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP FUNCTION carveout.lockstep_wait(text)")
