"""Decisions about single records."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = """
CREATE TABLE carveout.stream_decision (
    context text NOT NULL,
    epoch int NOT NULL,
    ordinal bigint NOT NULL,
    replacement bytea,
    reason text NOT NULL,
    decided_by text NOT NULL DEFAULT session_user,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (context, epoch, ordinal)
);
COMMENT ON TABLE carveout.stream_decision IS
    'Records of a topic that an operator had left out or replaced; a proof must be newer than each';
COMMENT ON COLUMN carveout.stream_decision.replacement IS 'What is read in its place; null: nothing';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.stream_decision")
