-- name: capacity
WITH own AS (
    SELECT count(*) AS slots, count(active_pid) AS senders
    FROM pg_replication_slots
    WHERE slot_name ~ ('^carveout_' || %(context)s || '_(barrier_)?[0-9]+$')
)
SELECT 'max_replication_slots', current_setting('max_replication_slots')::int,
       (SELECT count(*) FROM pg_replication_slots), own.slots
FROM own
UNION ALL
SELECT 'max_wal_senders', current_setting('max_wal_senders')::int,
       (SELECT count(*) FROM pg_stat_replication), own.senders
FROM own
