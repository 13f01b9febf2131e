-- name: create
CREATE TABLE IF NOT EXISTS {versions} (
    epoch int NOT NULL,
    commit_lsn pg_lsn NOT NULL,
    ordinal bigint NOT NULL,
    operation text NOT NULL CHECK (operation IN ('baseline', 'insert', 'update', 'delete', 'truncate')),
    xid bigint,
    committed_at timestamptz NOT NULL,
    old jsonb,
    new jsonb,
    PRIMARY KEY (epoch, commit_lsn, ordinal)
)

-- name: known
SELECT columns FROM carveout.row_history WHERE context = %s AND table_schema = %s AND table_name = %s

-- name: know
INSERT INTO carveout.row_history (context, table_schema, table_name, columns, epoch, baseline_lsn)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (context, table_schema, table_name) DO UPDATE
SET columns = excluded.columns, epoch = excluded.epoch, baseline_lsn = excluded.baseline_lsn,
    baseline_at = clock_timestamp()

-- name: baseline
-- Before every change at this position: their ordinals begin at 1.
INSERT INTO {versions} (epoch, commit_lsn, ordinal, operation, committed_at, new)
SELECT {epoch}, {lsn}::pg_lsn, -row_number() OVER (), 'baseline', clock_timestamp(), {image} FROM ONLY {table} AS t
ON CONFLICT DO NOTHING

-- name: add
INSERT INTO {versions} (epoch, commit_lsn, ordinal, operation, xid, committed_at, old, new)
SELECT {epoch}, v.lsn, v.ordinal, v.operation, v.xid, v.at, v.old, v.new
FROM ROWS FROM (unnest(%s::pg_lsn[], %s::bigint[], %s::text[], %s::bigint[], %s::timestamptz[], %s::jsonb[], %s::jsonb[]))
    AS v (lsn, ordinal, operation, xid, at, old, new)
ON CONFLICT DO NOTHING

-- name: roles
SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s::text[])
