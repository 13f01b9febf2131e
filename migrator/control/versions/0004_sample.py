"""Samples of lag and rate over a migration, for the report."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = """
CREATE TABLE carveout.sample (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    at timestamptz NOT NULL,
    phase text NOT NULL,
    lag_s float8,
    lag_bytes bigint,
    rows_per_s float8
);
CREATE INDEX sample_by_context ON carveout.sample (context, at);
COMMENT ON TABLE carveout.sample IS
    'What each context''s worker measured; bounded: older samples are merged by pairs, so they are further apart';
COMMENT ON COLUMN carveout.sample.lag_s IS 'The worst since the sample before; null while nothing streams';
COMMENT ON COLUMN carveout.sample.rows_per_s IS 'The mean since the sample before';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.sample")
