"""What shadow reads have seen."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
CREATE TABLE carveout.shadow_read (
    context text NOT NULL,
    statement text NOT NULL,
    runs bigint NOT NULL,
    differences bigint NOT NULL,
    errors bigint NOT NULL,
    undecided bigint NOT NULL,
    shared_ms float8 NOT NULL,
    service_ms float8 NOT NULL,
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_difference_at timestamptz,
    PRIMARY KEY (context, statement)
);
COMMENT ON TABLE carveout.shadow_read IS 'SELECTs that ran on both sides and were compared; without values';

CREATE FUNCTION carveout.shadow_noted(
    context text, statement text, runs bigint, differences bigint, errors bigint, undecided bigint,
    shared_ms float8, service_ms float8
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    INSERT INTO carveout.shadow_read AS s VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(),
        CASE WHEN $4 > 0 THEN clock_timestamp() END)
    ON CONFLICT (context, statement) DO UPDATE SET
        runs = s.runs + excluded.runs, differences = s.differences + excluded.differences,
        errors = s.errors + excluded.errors, undecided = s.undecided + excluded.undecided,
        shared_ms = s.shared_ms + excluded.shared_ms, service_ms = s.service_ms + excluded.service_ms,
        last_at = excluded.last_at, last_difference_at = coalesce(excluded.last_difference_at, s.last_difference_at)
$$;
COMMENT ON FUNCTION carveout.shadow_noted IS 'Adds an application''s counts to carveout.shadow_read';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP FUNCTION carveout.shadow_noted; DROP TABLE carveout.shadow_read")
