"""Indexes and constraints of the context history: built when the rows are there, with the stream going on.

Written from the shared database's own catalogs; edit it as any revision. There is no way down: the database is new.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
LOCK TABLE history.points, history.settlements IN ACCESS EXCLUSIVE MODE;
CREATE INDEX points_account ON history.points USING btree (account_id, created_at DESC);
CREATE INDEX points_pending ON history.points USING btree (created_at) WHERE (state = 'pending'::history.point_state);
CREATE INDEX points_settlement ON history.points USING btree (settlement_id);
ALTER TABLE history.points ADD CONSTRAINT points_payment_id_key
    UNIQUE (payment_id);
ALTER TABLE history.points ADD CONSTRAINT confirmed_by_a_settlement
    CHECK (((state = 'confirmed'::history.point_state) = (settlement_id IS NOT NULL)));
ALTER TABLE history.points ADD CONSTRAINT points_points_check
    CHECK ((points >= 0));
ALTER TABLE history.settlements ADD CONSTRAINT settlements_number_key
    UNIQUE (number);
ALTER TABLE history.settlements ADD CONSTRAINT settlements_points_check
    CHECK ((points >= 0));
ALTER TABLE history.points ADD CONSTRAINT points_settlement_id_fkey
    FOREIGN KEY (settlement_id) REFERENCES history.settlements(id);
"""


def upgrade() -> None:
    # A colon would be read as the beginning of a parameter.
    op.execute(STATEMENTS.replace(":", "\\:"))
