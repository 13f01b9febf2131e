-- name: status
SELECT s.plugin, s.database, s.temporary, s.two_phase, s.active_pid,
       s.confirmed_flush_lsn::text, s.restart_lsn::text, s.wal_status,
       coalesce(to_jsonb(s) ->> 'invalidation_reason',
                -- before 17 the reason shows only in what is left of the slot
                CASE WHEN s.wal_status = 'lost' AND s.restart_lsn IS NULL THEN 'wal_removed'
                     WHEN (to_jsonb(s) ->> 'conflicting')::bool THEN 'conflict with recovery'
                     WHEN s.wal_status = 'lost' THEN 'lost' END),
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                       s.confirmed_flush_lsn)::int8
FROM pg_replication_slots s
WHERE s.slot_name = %s

-- name: blockers
-- A transaction that has written holds an exclusive lock on its own id; unlike pg_stat_activity.backend_xid,
-- pg_locks shows it to every role.
SELECT 'pid ' || a.pid, a.usename, a.application_name, a.datname,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_stat_activity a
WHERE a.pid IN (SELECT l.pid FROM pg_locks l
                WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted)
  AND a.pid NOT IN (%(walsender)s, pg_backend_pid())
  AND (a.pid = ANY (pg_blocking_pids(%(walsender)s)) OR a.xact_start IS NULL
       OR clock_timestamp() - a.xact_start >= make_interval(secs => %(waited_s)s))
UNION ALL
SELECT 'prepared transaction ' || quote_literal(p.gid), p.owner, '', p.database,
       extract(epoch FROM clock_timestamp() - p.prepared)::float8
FROM pg_prepared_xacts p
ORDER BY 5 DESC NULLS LAST

-- name: publication
SELECT NOT p.puballtables AND NOT p.pubviaroot AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
           AND coalesce(bool_and(to_jsonb(r) ->> 'prqual' IS NULL AND to_jsonb(r) ->> 'prattrs' IS NULL), true),
       coalesce(array_agg(n.nspname::text ORDER BY r.oid) FILTER (WHERE r.oid IS NOT NULL), '{}'),
       coalesce(array_agg(c.relname::text ORDER BY r.oid) FILTER (WHERE r.oid IS NOT NULL), '{}')
FROM pg_publication p
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid
LEFT JOIN pg_class c ON c.oid = r.prrelid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = %s
GROUP BY p.oid
