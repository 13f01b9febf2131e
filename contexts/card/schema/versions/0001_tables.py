"""Tables of the context card: what must be there before the first row is copied.

Written from the shared database's own catalogs; edit it as any revision. There is no way down: the database is new.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE SCHEMA IF NOT EXISTS card;

CREATE TABLE card.registrations (
    token uuid NOT NULL,
    account_id bigint NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    fingerprint bytea NOT NULL,
    network text GENERATED ALWAYS AS ((details ->> 'network'::text)) STORED,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT registrations_pkey PRIMARY KEY (token)
);
ALTER TABLE ONLY card.registrations ALTER COLUMN details SET STORAGE EXTERNAL;
"""


def upgrade() -> None:
    # A colon would be read as the beginning of a parameter.
    op.execute(STATEMENTS.replace(":", "\\:"))
