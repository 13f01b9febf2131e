"""Lockstep: what shims wrote here, what the stream says of it, and who still writes past the shim."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = """
CREATE TABLE carveout.lockstep (
    context text PRIMARY KEY,
    marker text NOT NULL,
    audited bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE carveout.lockstep IS 'Contexts written on both sides, from the moment this marker is applied here';
COMMENT ON COLUMN carveout.lockstep.audited IS 'Transactions of the stream that were compared with the ledger';

CREATE TABLE carveout.lockstep_table (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    tab int NOT NULL,
    key text[] NOT NULL,
    columns text[] NOT NULL,
    PRIMARY KEY (context, table_schema, table_name)
);
COMMENT ON TABLE carveout.lockstep_table IS 'The tables as the ledger numbers them; a partition has its root''s number';

CREATE TABLE carveout.lockstep_ledger (
    gid text NOT NULL,
    tab int NOT NULL,
    key text[] NOT NULL,
    hashes bytea[]
);
CREATE INDEX lockstep_ledger_gid ON carveout.lockstep_ledger (gid);
COMMENT ON TABLE carveout.lockstep_ledger IS
    'The rows that a lockstep transaction left here, read back before it was prepared; removed by the audit';
COMMENT ON COLUMN carveout.lockstep_ledger.hashes IS
    'Per column the first 8 bytes of the SHA-256 of its text, NULL for NULL; NULL where the row is gone';

CREATE TABLE carveout.lockstep_difference (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    gid text NOT NULL,
    end_lsn pg_lsn NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    key text[] NOT NULL,
    kind text NOT NULL,
    columns text[] NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    repaired_at timestamptz
);
COMMENT ON TABLE carveout.lockstep_difference IS 'What the audit found; no values';

CREATE TABLE carveout.unshimmed_writer (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    role text NOT NULL,
    application text NOT NULL,
    transactions bigint NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    PRIMARY KEY (context, table_schema, table_name, role, application)
);
COMMENT ON TABLE carveout.unshimmed_writer IS 'Who committed writes without the shim, as the stream has shown';
"""

DROP = """
DROP TABLE carveout.unshimmed_writer, carveout.lockstep_difference, carveout.lockstep_ledger,
    carveout.lockstep_table, carveout.lockstep
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(DROP)
