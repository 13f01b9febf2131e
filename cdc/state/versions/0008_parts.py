"""How far each partition of the rows is applied, where a stream has several."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = """
ALTER TABLE carveout.position ADD COLUMN parts bigint[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN carveout.position.parts IS
    'Offset of the next record in each partition of the rows, where a stream through Kafka has several; else empty';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("ALTER TABLE carveout.position DROP COLUMN parts")
