-- name: outbox
CREATE TABLE {schema}.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    payload jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON {schema}.outbox (created_at);
COMMENT ON TABLE {schema}.outbox IS 'Messages to other services, written with the rows that they tell of';

-- name: inbox
CREATE TABLE {schema}.inbox_message (
    consumer text NOT NULL,
    id text NOT NULL,
    state text NOT NULL CHECK (state IN ('handled', 'failed', 'parked', 'skipped')),
    tries int NOT NULL DEFAULT 0,
    reason text,
    topic text,
    key text,
    headers jsonb,
    payload bytea,
    number bigint GENERATED ALWAYS AS IDENTITY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, id)
);
CREATE INDEX ON {schema}.inbox_message (consumer, topic, key, number) WHERE state = 'parked';
CREATE INDEX ON {schema}.inbox_message (changed_at) WHERE state = 'handled';
COMMENT ON TABLE {schema}.inbox_message IS
    'What each consumer has handled, in the transaction that handled it, and what it could not handle';

-- name: send
INSERT INTO {schema}.outbox (id, aggregatetype, aggregateid, type, payload) VALUES (%s, %s, %s, %s, %s)

-- name: clean
DELETE FROM {schema}.outbox WHERE created_at < clock_timestamp() - make_interval(secs => %s)

-- name: take
-- A second consumer waits here for the first one's transaction, and then finds the message handled.
INSERT INTO {schema}.inbox_message AS m (consumer, id, state, tries) VALUES (%s, %s, 'handled', 1)
ON CONFLICT (consumer, id) DO UPDATE
SET state = 'handled', tries = m.tries + 1, reason = NULL, topic = NULL, key = NULL, headers = NULL, payload = NULL,
    changed_at = clock_timestamp()
WHERE m.state = ANY (%s)
RETURNING 1

-- name: state
SELECT state FROM {schema}.inbox_message WHERE consumer = %s AND id = %s

-- name: parked_before
SELECT id FROM {schema}.inbox_message
WHERE consumer = %s AND topic = %s AND key = %s AND state = 'parked' AND id <> %s
  AND number < coalesce((SELECT number FROM {schema}.inbox_message WHERE consumer = %s AND id = %s), 9223372036854775807)
ORDER BY number LIMIT 1

-- name: fail
INSERT INTO {schema}.inbox_message AS m (consumer, id, state, tries, reason, topic, key, headers, payload)
VALUES (%s, %s, CASE WHEN %s THEN 'parked' ELSE 'failed' END, 1, %s, %s, %s, %s, %s)
ON CONFLICT (consumer, id) DO UPDATE
SET state = CASE WHEN m.state = 'parked' OR m.tries + 1 >= %s THEN 'parked' ELSE excluded.state END, tries = m.tries + 1,
    reason = excluded.reason, topic = excluded.topic, key = excluded.key, headers = excluded.headers,
    payload = excluded.payload, changed_at = clock_timestamp()
WHERE m.state IN ('failed', 'parked')
RETURNING state

-- name: parked
SELECT id, topic, key, headers, payload, tries, reason, changed_at FROM {schema}.inbox_message
WHERE consumer = %s AND state = 'parked' ORDER BY number

-- name: skip
UPDATE {schema}.inbox_message SET state = 'skipped', reason = %s, changed_at = clock_timestamp()
WHERE consumer = %s AND id = %s AND state IN ('parked', 'failed') RETURNING 1

-- name: forget
DELETE FROM {schema}.inbox_message
WHERE consumer = %s AND state IN ('handled', 'skipped') AND changed_at < clock_timestamp() - make_interval(secs => %s)
