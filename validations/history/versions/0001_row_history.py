"""Which tables have versions, and from where on."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE carveout.row_history (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    columns text[] NOT NULL,
    epoch int NOT NULL,
    baseline_lsn pg_lsn NOT NULL,
    baseline_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (context, table_schema, table_name)
);
COMMENT ON TABLE carveout.row_history IS
    'Tables whose changes are kept in <table>_versions; written with the newest baseline of all their rows';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.row_history")
