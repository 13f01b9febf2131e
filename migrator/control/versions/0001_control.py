"""Migrations, switches, journal, intents, events and workers."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE carveout.migration (
    context text PRIMARY KEY,
    state text NOT NULL,
    open_side text NOT NULL DEFAULT 'shared' CHECK (open_side IN ('shared', 'service')),
    epoch int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN carveout.migration.epoch IS 'Counts the switches; stream, slot and position carry it';

CREATE TABLE carveout.switch (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    context text NOT NULL REFERENCES carveout.migration ON DELETE CASCADE,
    from_side text NOT NULL,
    to_side text NOT NULL,
    epoch int NOT NULL,
    outcome text NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'committed', 'finished', 'undone')),
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    breakdown jsonb NOT NULL DEFAULT '{}',
    reason text
);
CREATE UNIQUE INDEX switch_one_at_a_time ON carveout.switch (context) WHERE outcome IN ('running', 'committed');
COMMENT ON COLUMN carveout.switch.epoch IS 'The epoch that begins when this switch commits';
COMMENT ON COLUMN carveout.switch.outcome IS 'committed is the point of no return: from there only forward';

CREATE TABLE carveout.journal (
    switch uuid NOT NULL REFERENCES carveout.switch ON DELETE CASCADE,
    step text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (switch, step)
);

CREATE TABLE carveout.intent (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'requested'
        CHECK (state IN ('requested', 'accepted', 'done', 'failed', 'cancelled')),
    result jsonb,
    requested_by text NOT NULL DEFAULT session_user,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX intent_open ON carveout.intent (context, id) WHERE state IN ('requested', 'accepted');

CREATE TABLE carveout.event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL DEFAULT session_user,
    kind text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_by_context ON carveout.event (context, id);

CREATE TABLE carveout.worker (
    context text PRIMARY KEY,
    owner uuid NOT NULL,
    host text NOT NULL,
    pid int NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    report jsonb NOT NULL
);
COMMENT ON TABLE carveout.worker IS 'The last report of each context''s worker; stale where seen_at is old';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(
        "DROP TABLE carveout.worker, carveout.event, carveout.intent, carveout.journal, carveout.switch,"
        " carveout.migration"
    )
