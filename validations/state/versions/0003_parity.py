"""What surrounds the rows, as a verification saw it."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = """
CREATE TABLE carveout.verification_parity (
    verification bigint PRIMARY KEY REFERENCES carveout.verification ON DELETE CASCADE,
    schema text[] NOT NULL,
    sequences text[] NOT NULL,
    grants text[] NOT NULL
);
COMMENT ON TABLE carveout.verification_parity IS
    'How the sides differ around the rows, a line each; only differences of the schema spoil a proof';
COMMENT ON COLUMN carveout.verification_parity.sequences IS
    'Before a switch the closed side''s sequences may be behind: the switch sets them';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.verification_parity")
