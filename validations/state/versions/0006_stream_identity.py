"""The stream that a verification was made on."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = """
CREATE TABLE carveout.verification_stream (
    verification bigint PRIMARY KEY REFERENCES carveout.verification ON DELETE CASCADE,
    epoch int NOT NULL,
    system_identifier text NOT NULL,
    timeline int NOT NULL,
    slot text NOT NULL,
    end_lsn pg_lsn NOT NULL
);
COMMENT ON TABLE carveout.verification_stream IS
    'Written last: a verification without it was not finished as a whole';
COMMENT ON COLUMN carveout.verification_stream.end_lsn IS 'How far the stream was applied when the verification ended';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.verification_stream")
