"""Events of outbox tables that are not published yet."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
CREATE TABLE carveout.outbox_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    epoch int NOT NULL,
    topic text NOT NULL,
    key text,
    event_id text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea,
    at timestamptz NOT NULL,
    held text,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX outbox_event_next ON carveout.outbox_event (context, epoch, id);
CREATE INDEX outbox_event_held ON carveout.outbox_event (context, topic, key, id) WHERE held IS NOT NULL;
COMMENT ON TABLE carveout.outbox_event IS
    'Events of outbox tables, written with the rows and deleted once they are published; id is the order';
COMMENT ON COLUMN carveout.outbox_event.held IS
    'Why the sink will never take it; later events of its topic and key wait behind it';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP TABLE carveout.outbox_event")
