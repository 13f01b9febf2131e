-- name: publication
SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = %s

-- name: published
SELECT n.nspname, c.relname
FROM pg_catalog.pg_publication p
JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = %s

-- name: slot
SELECT plugin::text, database = current_database(), confirmed_flush_lsn::text
FROM pg_catalog.pg_replication_slots
WHERE slot_name = %s

-- name: drop_slot
SELECT pg_catalog.pg_drop_replication_slot(slot_name)
FROM pg_catalog.pg_replication_slots
WHERE slot_name = %s
