-- name: barrier
CREATE TABLE {schema}.tcc_branch (
    gid uuid NOT NULL,
    branch text NOT NULL,
    state text NOT NULL CHECK (state IN ('tried', 'confirmed', 'cancelled')),
    deadline timestamptz NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gid, branch)
);
COMMENT ON TABLE {schema}.tcc_branch IS 'What this service has done of distributed transactions, written with its rows';

-- name: coordinator
CREATE TABLE {schema}.tcc_transaction (
    gid uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('trying', 'confirming', 'confirmed', 'cancelling', 'cancelled')),
    deadline timestamptz NOT NULL,
    reason text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tcc_transaction_open ON {schema}.tcc_transaction (deadline)
    WHERE state IN ('trying', 'confirming', 'cancelling');
CREATE TABLE {schema}.tcc_call (
    gid uuid NOT NULL,
    branch text NOT NULL,
    arguments jsonb NOT NULL,
    done boolean NOT NULL DEFAULT false,
    PRIMARY KEY (gid, branch)
);
COMMENT ON TABLE {schema}.tcc_transaction IS 'The log of the coordinator: a transaction is decided when its state says so';

-- name: begin
INSERT INTO {schema}.tcc_transaction (gid, state, deadline)
VALUES (%s, 'trying', clock_timestamp() + %s * interval '1 second') RETURNING deadline

-- name: call
INSERT INTO {schema}.tcc_call (gid, branch, arguments) VALUES (%s, %s, %s)

-- name: decide
UPDATE {schema}.tcc_transaction SET state = %s, reason = %s, changed_at = clock_timestamp()
WHERE gid = %s AND state = 'trying' AND (%s OR deadline > clock_timestamp()) RETURNING 1

-- name: state
SELECT state FROM {schema}.tcc_transaction WHERE gid = %s

-- name: locked_state
SELECT state FROM {schema}.tcc_transaction WHERE gid = %s FOR UPDATE

-- name: open_calls
SELECT branch, arguments FROM {schema}.tcc_call WHERE gid = %s AND NOT done ORDER BY branch

-- name: done
UPDATE {schema}.tcc_call SET done = true WHERE gid = %s AND branch = %s

-- name: finish
UPDATE {schema}.tcc_transaction SET state = %s, changed_at = clock_timestamp()
WHERE gid = %s AND state = %s AND NOT EXISTS (SELECT FROM {schema}.tcc_call c WHERE c.gid = %s AND NOT c.done)

-- name: unfinished
SELECT gid, state FROM {schema}.tcc_transaction
WHERE (state IN ('confirming', 'cancelling') AND changed_at <= clock_timestamp() - %s * interval '1 second')
   OR (state = 'trying' AND deadline <= clock_timestamp())
ORDER BY deadline

-- name: try
INSERT INTO {schema}.tcc_branch (gid, branch, state, deadline) VALUES (%s, %s, 'tried', %s)
ON CONFLICT DO NOTHING RETURNING 1

-- name: confirm
UPDATE {schema}.tcc_branch SET state = 'confirmed', changed_at = clock_timestamp()
WHERE gid = %s AND branch = %s AND state = 'tried' RETURNING 1

-- name: cancel
-- xmax is zero in a row that was inserted: the cancel came before its try, which will be refused.
INSERT INTO {schema}.tcc_branch AS b (gid, branch, state, deadline) VALUES (%s, %s, 'cancelled', clock_timestamp())
ON CONFLICT (gid, branch) DO UPDATE SET state = 'cancelled', changed_at = clock_timestamp() WHERE b.state = 'tried'
RETURNING xmax::text = '0'

-- name: branch
SELECT state FROM {schema}.tcc_branch WHERE gid = %s AND branch = %s
