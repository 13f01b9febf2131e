"""The route and the write lock, on both sides."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE carveout.route (
    context text PRIMARY KEY,
    open_side text NOT NULL CHECK (open_side IN ('shared', 'service')),
    epoch int NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE carveout.route IS 'Which side takes the writes of a context, as this database was last told';
GRANT USAGE ON SCHEMA carveout TO PUBLIC;
GRANT SELECT ON carveout.route TO PUBLIC;

CREATE FUNCTION carveout.write_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'carveout: table %.% of context % is closed for writes in this database',
        TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'read_only_sql_transaction',
              HINT = format('write to the %s database', TG_ARGV[1]);
END $$;
COMMENT ON FUNCTION carveout.write_lock() IS
    'Refuses writes while its trigger is enabled; arguments: context, the side that is open meanwhile';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP FUNCTION carveout.write_lock(); DROP TABLE carveout.route")
