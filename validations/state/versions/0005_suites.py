"""What became of the suites at a verification."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
CREATE TABLE carveout.verification_suite (
    verification bigint NOT NULL REFERENCES carveout.verification ON DELETE CASCADE,
    name text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    text text NOT NULL,
    sides text[] NOT NULL,
    may_be_empty boolean NOT NULL,
    milliseconds float8 NOT NULL,
    lsn pg_lsn NOT NULL,
    barrier_at timestamptz NOT NULL,
    PRIMARY KEY (verification, name)
);
COMMENT ON TABLE carveout.verification_suite IS 'Suites of expectations, as they were run on both sides at one barrier';

CREATE TABLE carveout.verification_expectation (
    verification bigint NOT NULL,
    suite text NOT NULL,
    number int NOT NULL,
    type text NOT NULL,
    arguments jsonb NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'warning', 'info')),
    description text NOT NULL,
    outcomes jsonb NOT NULL,
    PRIMARY KEY (verification, suite, number),
    FOREIGN KEY (verification, suite) REFERENCES carveout.verification_suite ON DELETE CASCADE
);
COMMENT ON COLUMN carveout.verification_expectation.outcomes IS
    'What was answered, an object for each side, or one without a side where both were compared';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.verification_expectation, carveout.verification_suite")
