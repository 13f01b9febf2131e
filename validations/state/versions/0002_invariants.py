"""What became of the invariants at a verification."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
CREATE TABLE carveout.verification_invariant (
    verification bigint NOT NULL REFERENCES carveout.verification ON DELETE CASCADE,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('rows', 'number')),
    severity text NOT NULL CHECK (severity IN ('critical', 'error', 'warning')),
    sides text[] NOT NULL,
    proves text NOT NULL,
    key text[] NOT NULL,
    sql text NOT NULL,
    lsn pg_lsn NOT NULL,
    barrier_at timestamptz NOT NULL,
    PRIMARY KEY (verification, name)
);
COMMENT ON TABLE carveout.verification_invariant IS 'Statements that had to hold, as they were run at one barrier';

CREATE TABLE carveout.verification_invariant_side (
    verification bigint NOT NULL,
    name text NOT NULL,
    side text NOT NULL CHECK (side IN ('shared', 'service')),
    error text NOT NULL,
    rows bigint NOT NULL,
    violations jsonb NOT NULL,
    number numeric,
    milliseconds float8 NOT NULL,
    PRIMARY KEY (verification, name, side),
    FOREIGN KEY (verification, name) REFERENCES carveout.verification_invariant ON DELETE CASCADE
);
COMMENT ON COLUMN carveout.verification_invariant_side.error IS 'Why there is no answer; empty where there is one';
COMMENT ON COLUMN carveout.verification_invariant_side.rows IS 'All violating rows; only the first are in violations';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.verification_invariant_side, carveout.verification_invariant")
