"""Streams through Kafka."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
CREATE TABLE carveout.kafka_stream (
    context text NOT NULL,
    epoch int NOT NULL,
    placeholder text NOT NULL,
    PRIMARY KEY (context, epoch)
);
COMMENT ON COLUMN carveout.kafka_stream.placeholder IS
    'What Debezium writes for an unchanged TOAST value; the same as long as the topic lives';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.kafka_stream")
