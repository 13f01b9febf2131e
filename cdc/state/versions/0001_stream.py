"""Positions, copy parts and markers."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE carveout.position (
    context text NOT NULL,
    epoch int NOT NULL,
    system_identifier text NOT NULL,
    timeline int NOT NULL,
    slot text NOT NULL,
    end_lsn pg_lsn NOT NULL,
    ordinal bigint NOT NULL DEFAULT 0,
    source_time timestamptz,
    owner uuid,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (context, epoch)
);
COMMENT ON TABLE carveout.position IS
    'How far this side has applied a stream; written in the transaction of the rows';
COMMENT ON COLUMN carveout.position.epoch IS 'Counts the switches of the context: each has a stream of its own';
COMMENT ON COLUMN carveout.position.end_lsn IS 'Everything that committed at or before this is applied';
COMMENT ON COLUMN carveout.position.owner IS 'The worker that may write; any other finds no row and stops';

CREATE TABLE carveout.marker (
    context text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    end_lsn pg_lsn NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (context, id)
);
COMMENT ON TABLE carveout.marker IS 'Markers that came out of the stream and were applied';

CREATE TABLE carveout.copy_part (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    part int NOT NULL,
    strategy text NOT NULL CHECK (strategy IN ('ctid', 'key')),
    lower text[],
    upper text[],
    estimated_bytes bigint NOT NULL,
    cycle int NOT NULL,
    done boolean NOT NULL DEFAULT false,
    rows bigint,
    bytes bigint,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (context, table_schema, table_name, part)
);
COMMENT ON TABLE carveout.copy_part IS 'The copy''s ledger: a part is done in the transaction that wrote its rows';
COMMENT ON COLUMN carveout.copy_part.lower IS 'First key or ctid, inclusive; null: open';
COMMENT ON COLUMN carveout.copy_part.upper IS 'End key or ctid, exclusive; null: open';

CREATE TABLE carveout.copy_key (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    key text[] NOT NULL,
    PRIMARY KEY (context, table_schema, table_name, key)
);
COMMENT ON TABLE carveout.copy_key IS
    'Keys whose whole row the next copy cycle must bring: a change carried them out of a range not yet copied';

CREATE TABLE carveout.recent_key (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    columns text[] NOT NULL,
    key text[] NOT NULL
);
COMMENT ON TABLE carveout.recent_key IS
    'The keys changed last, stored with a fence marker for the check of a switch';

CREATE TABLE carveout.copy_primary_key (
    context text NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    constraint_name text NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (context, table_schema, table_name)
);
COMMENT ON TABLE carveout.copy_primary_key IS
    'Primary keys dropped for the load: written with the drop, removed with the build';
"""

DROP = """
DROP TABLE carveout.recent_key, carveout.copy_primary_key, carveout.copy_key, carveout.copy_part,
    carveout.marker, carveout.position
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(DROP)
