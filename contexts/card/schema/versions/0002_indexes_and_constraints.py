"""Indexes and constraints of the context card: built when the rows are there, with the stream going on.

Written from the shared database's own catalogs; edit it as any revision. There is no way down: the database is new.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
LOCK TABLE card.registrations IN ACCESS EXCLUSIVE MODE;
CREATE INDEX registrations_account ON card.registrations USING btree (account_id);
CREATE INDEX registrations_details ON card.registrations USING gin (details jsonb_path_ops);
ALTER TABLE card.registrations ADD CONSTRAINT registrations_fingerprint_key
    UNIQUE (fingerprint);
ALTER TABLE card.registrations ADD CONSTRAINT registrations_fingerprint_check
    CHECK ((length(fingerprint) = 32));
ALTER TABLE card.registrations ADD CONSTRAINT registrations_status_check
    CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'blocked'::text])));
"""


def upgrade() -> None:
    # A colon would be read as the beginning of a parameter.
    op.execute(STATEMENTS.replace(":", "\\:"))
