"""Violations of stream rules."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE carveout.rule_violation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    epoch int NOT NULL,
    rule text NOT NULL,
    kind text NOT NULL,
    policy text NOT NULL CHECK (policy IN ('report', 'stop')),
    table_schema text NOT NULL,
    table_name text NOT NULL,
    xid bigint NOT NULL,
    commit_lsn pg_lsn NOT NULL,
    committed_at timestamptz NOT NULL,
    violations bigint NOT NULL,
    keys jsonb NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_at timestamptz,
    accepted_at timestamptz,
    accepted_by text,
    reason text,
    UNIQUE (context, epoch, commit_lsn, rule),
    CHECK ((accepted_at IS NULL) = (accepted_by IS NULL))
);
COMMENT ON TABLE carveout.rule_violation IS
    'A transaction of the stream that broke a rule; written in the transaction of its rows, on the side they are for';
COMMENT ON COLUMN carveout.rule_violation.violations IS 'How many rows or groups; only the first keys are kept';
COMMENT ON COLUMN carveout.rule_violation.applied_at IS 'When its rows were applied; null: the stream stopped before';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.rule_violation")
