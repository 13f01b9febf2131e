"""Repairs with a line per key, and samples beside full verifications."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = """
ALTER TABLE carveout.verification DROP CONSTRAINT verification_kind_check;
ALTER TABLE carveout.verification ADD CONSTRAINT verification_kind_check CHECK (kind IN ('full', 'delta', 'sample'));
COMMENT ON COLUMN carveout.verification.kind IS
    'full: every row; delta: given keys; sample: some of the rows, a quick look that proves nothing';

CREATE TABLE carveout.repair (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    epoch int NOT NULL,
    open_side text NOT NULL CHECK (open_side IN ('shared', 'service')),
    made_by text NOT NULL DEFAULT session_user,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    compared_again bigint REFERENCES carveout.verification ON DELETE SET NULL
);
COMMENT ON TABLE carveout.repair IS 'Rows that were copied again from the open side by command';
COMMENT ON COLUMN carveout.repair.compared_again IS 'The comparison of the repaired keys that ended it';

CREATE TABLE carveout.repair_key (
    repair bigint NOT NULL REFERENCES carveout.repair ON DELETE CASCADE,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    key text[] NOT NULL,
    kind text CHECK (kind IN ('missing_on_closed', 'missing_on_open', 'different')),
    lsn pg_lsn,
    made_by text,
    begun_at timestamptz,
    done_at timestamptz,
    PRIMARY KEY (repair, table_schema, table_name, key)
);
CREATE INDEX ON carveout.repair_key (repair, table_schema, table_name) WHERE done_at IS NULL;
COMMENT ON TABLE carveout.repair_key IS 'What a repair did to each key; it holds no values';
COMMENT ON COLUMN carveout.repair_key.kind IS 'How the row differed at lsn; null: it did not, so nothing was written';
COMMENT ON COLUMN carveout.repair_key.begun_at IS
    'Written before the row: a repair that was killed in between finds the row equal and writes it no second time';
"""

DROP = """
DROP TABLE carveout.repair_key, carveout.repair;
DELETE FROM carveout.verification WHERE kind = 'sample';
ALTER TABLE carveout.verification DROP CONSTRAINT verification_kind_check;
ALTER TABLE carveout.verification ADD CONSTRAINT verification_kind_check CHECK (kind IN ('full', 'delta'));
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(DROP)
