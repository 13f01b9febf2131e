-- name: add
INSERT INTO carveout.outbox_event (context, epoch, topic, key, event_id, headers, payload, at)
SELECT %s, %s, e.topic, e.key, e.event_id, e.headers, e.payload, e.at
FROM unnest(%s::text[], %s::text[], %s::text[], %s::jsonb[], %s::bytea[], %s::timestamptz[])
    WITH ORDINALITY AS e (topic, key, event_id, headers, payload, at, place)
ORDER BY e.place

-- name: tell
NOTIFY carveout_outbox

-- name: epochs
SELECT DISTINCT epoch FROM carveout.outbox_event WHERE context = %s ORDER BY epoch

-- name: next
-- Nothing of a topic and key of which something earlier is held here, or waits on the other side. At least one event,
-- and not many more bytes than asked for.
WITH candidates AS (
    SELECT e.id, e.topic, e.key, e.event_id, e.headers, e.payload, e.at
    FROM carveout.outbox_event e
    WHERE e.context = %(context)s AND e.epoch = %(epoch)s AND e.held IS NULL
      AND NOT EXISTS (
        SELECT FROM carveout.outbox_event h
        WHERE h.context = e.context AND h.topic = e.topic AND h.key = e.key AND h.id < e.id AND h.held IS NOT NULL
      )
      AND NOT EXISTS (
        SELECT FROM unnest(%(topics)s::text[], %(keys)s::text[]) AS w (topic, key)
        WHERE w.topic = e.topic AND w.key = e.key
      )
    ORDER BY e.id
    LIMIT %(limit)s
), weighed AS (
    SELECT c.*, coalesce(sum(octet_length(c.payload)) OVER before, 0) AS bytes_before
    FROM candidates c
    WINDOW before AS (ORDER BY c.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
SELECT id, topic, key, event_id, headers, payload, at FROM weighed WHERE bytes_before < %(bytes)s ORDER BY id

-- name: waiting
SELECT DISTINCT topic, key FROM carveout.outbox_event WHERE context = %s AND epoch = %s AND key IS NOT NULL

-- name: published
DELETE FROM carveout.outbox_event WHERE id = ANY (%s)

-- name: hold
UPDATE carveout.outbox_event SET held = %s WHERE id = %s

-- name: release
UPDATE carveout.outbox_event SET held = NULL WHERE context = %s AND held IS NOT NULL

-- name: skip
DELETE FROM carveout.outbox_event WHERE context = %s AND event_id = %s AND held IS NOT NULL

-- name: status
SELECT count(*), min(queued_at), count(held) FROM carveout.outbox_event WHERE context = %s

-- name: held
SELECT event_id, topic, held, queued_at FROM carveout.outbox_event WHERE context = %s AND held IS NOT NULL ORDER BY id LIMIT %s

-- name: is_held
SELECT EXISTS (SELECT FROM carveout.outbox_event WHERE context = %s AND event_id = %s AND held IS NOT NULL)

-- name: newest
SELECT coalesce(max(id), 0) FROM carveout.outbox_event WHERE context = %s

-- name: until
SELECT count(*), count(held) FROM carveout.outbox_event WHERE context = %s AND id <= %s
