"""Verifications, their segments and the differences they found."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE carveout.verification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('full', 'delta')),
    open_side text NOT NULL CHECK (open_side IN ('shared', 'service')),
    schema_fingerprint text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    lsn_first pg_lsn,
    lsn_last pg_lsn,
    rows bigint,
    differences bigint,
    verdict text CHECK (verdict IN ('equal', 'different', 'incomplete', 'nothing_compared')),
    CHECK ((finished_at IS NULL) = (verdict IS NULL))
);
CREATE INDEX ON carveout.verification (context, started_at);
COMMENT ON TABLE carveout.verification IS 'One comparison of the two sides; unfinished ones are gone on with';
COMMENT ON COLUMN carveout.verification.lsn_first IS 'The oldest barrier at which a part was compared';

CREATE TABLE carveout.verification_table (
    verification bigint NOT NULL REFERENCES carveout.verification ON DELETE CASCADE,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    method text,
    problem text NOT NULL DEFAULT '',
    PRIMARY KEY (verification, table_schema, table_name),
    CHECK ((method IS NULL) = (problem <> ''))
);
COMMENT ON COLUMN carveout.verification_table.problem IS 'Why the table could not be compared';

CREATE TABLE carveout.verification_segment (
    verification bigint NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    segment int NOT NULL,
    extent jsonb NOT NULL,
    lsn pg_lsn,
    barrier_at timestamptz,
    rows_open bigint,
    rows_closed bigint,
    missing_on_closed bigint,
    missing_on_open bigint,
    different bigint,
    PRIMARY KEY (verification, table_schema, table_name, segment),
    FOREIGN KEY (verification, table_schema, table_name) REFERENCES carveout.verification_table ON DELETE CASCADE
);
COMMENT ON TABLE carveout.verification_segment IS
    'A part of a table; barrier_at is set in the transaction that writes its differences';
COMMENT ON COLUMN carveout.verification_segment.barrier_at IS
    'When its barrier was asked for: its snapshots are a little younger';

CREATE TABLE carveout.verification_difference (
    verification bigint NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    segment int NOT NULL,
    key text[] NOT NULL,
    kind text NOT NULL CHECK (kind IN ('missing_on_closed', 'missing_on_open', 'different')),
    columns text[] NOT NULL,
    count bigint NOT NULL,
    open_values text[],
    closed_values text[],
    FOREIGN KEY (verification, table_schema, table_name, segment)
        REFERENCES carveout.verification_segment ON DELETE CASCADE
);
CREATE INDEX ON carveout.verification_difference (verification, table_schema, table_name, segment);
COMMENT ON COLUMN carveout.verification_difference.key IS
    'The text of the key columns; the hash of the row where the table has no key';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(
        "DROP TABLE carveout.verification_difference, carveout.verification_segment, carveout.verification_table,"
        " carveout.verification"
    )
