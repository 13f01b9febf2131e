-- name: limits
SELECT set_config('lock_timeout', %(lock)s, true), set_config('statement_timeout', %(hold)s, true),
       set_config('idle_in_transaction_session_timeout', %(hold)s, true);

-- name: position
SELECT pg_current_wal_insert_lsn()::text;

-- name: shared
SELECT (SELECT mode FROM carveout.route WHERE context = %(context)s), pg_export_snapshot();

-- name: begun
-- Whether the phase that was announced last has begun here (before the position, where one is given), and no other one
-- since.
EXISTS (
    SELECT FROM carveout.lockstep l
    JOIN carveout.marker m ON m.context = l.context AND m.id = l.marker
    WHERE l.context = %(context)s AND (%(lsn)s::pg_lsn IS NULL OR m.end_lsn <= %(lsn)s::pg_lsn)
      AND NOT EXISTS (
        SELECT FROM carveout.marker later
        WHERE later.context = l.context AND later.kind IN ('lockstep', 'lockstep_off') AND later.end_lsn > m.end_lsn
      )
)

-- name: prepared
SELECT gid FROM pg_prepared_xacts
WHERE database = current_database() AND starts_with(gid, 'carveout:' || %(context)s || ':')
ORDER BY prepared;

-- name: is_held
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE pid = pg_backend_pid() AND relation = %(gate)s::regclass AND mode = 'ShareLock' AND granted
);
