-- name: slots
SELECT slot_name, database, wal_status
FROM pg_replication_slots
WHERE slot_name ~ ('^carveout_' || %(context)s || '_[0-9]+$') AND NOT temporary
ORDER BY 1

-- name: published
SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = %s)

-- name: write_locks
SELECT n.nspname, c.relname, t.tgname, t.tgenabled <> 'D'
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid AND p.proname = 'write_lock'
JOIN pg_namespace pn ON pn.oid = p.pronamespace AND pn.nspname = 'carveout'
WHERE c.oid = ANY (%s) AND NOT t.tgisinternal
ORDER BY 1, 2
