-- name: triggers
-- ALTER TABLE ... TRIGGER writes the row anew, so xmin changes even where the state is the same again.
SELECT tgrelid::int8, tgname::text, tgenabled::text, xmin::text
FROM pg_trigger
WHERE tgrelid = ANY (%s::oid[]) AND tgname IN ('carveout_write_lock', 'carveout_note_write')

-- name: rogue_writes
SELECT "table", operation, role, application, address, at
FROM carveout.rogue_write
WHERE context = %s
ORDER BY at DESC
LIMIT 100

-- name: report
UPDATE carveout.rogue_write SET reported = true
WHERE context = %s AND NOT reported
RETURNING "table", operation, role, application, address, at

-- name: begin
-- A new epoch begins a new list: who used the tables while they were open is no straggler.
INSERT INTO carveout.watch (context, epoch, refused_seen)
VALUES (%(context)s, %(epoch)s, 0)
ON CONFLICT (context) DO UPDATE
SET epoch = excluded.epoch, since = clock_timestamp(), looks = 0
WHERE watch.epoch <> excluded.epoch
RETURNING epoch

-- name: forget
DELETE FROM carveout.straggler WHERE context = %s

-- name: looked
-- The row before its change: what had been counted by the last look.
UPDATE carveout.watch w
SET looks = w.looks + 1, looked_at = clock_timestamp(), refused_seen = greatest(w.refused_seen, %(attempts)s)
FROM (SELECT context, refused_seen FROM carveout.watch WHERE context = %(context)s FOR UPDATE) before
WHERE w.context = before.context
RETURNING before.refused_seen

-- name: watched
SELECT since, looked_at, looks FROM carveout.watch WHERE context = %s

-- name: saw
INSERT INTO carveout.straggler (context, kind, role, application, address, "table", times)
VALUES (%(context)s, %(kind)s, %(role)s, %(application)s, %(address)s, %(table)s, %(times)s)
ON CONFLICT (context, kind, role, application, address, "table") DO UPDATE
SET times = straggler.times + excluded.times, last_seen = clock_timestamp()

-- name: refused_by
-- The session may have ended; then its address is all that is known of it, and only IPv4 fits into a sequence.
SELECT coalesce(r.rolname, 'a dropped role'), coalesce(a.application_name, ''),
       coalesce(host(a.client_addr), CASE WHEN %(address)s::int8 > 0 THEN host('0.0.0.0'::inet + %(address)s::int8) END, ''),
       quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_roles r ON r.oid = %(role)s::oid
LEFT JOIN pg_stat_activity a ON a.pid = %(pid)s AND a.usesysid = %(role)s::oid
WHERE c.oid = ANY (%(tables)s::oid[]) AND (c.oid::int8 & 2147483647) = %(relation)s

-- name: sessions
-- Locks are held to the transaction's end, so a reader is seen if it is in a transaction at this moment.
SELECT CASE WHEN bool_or(l.mode <> 'AccessShareLock') THEN 'write' ELSE 'read' END, a.usename::text,
       coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''),
       quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY (%s::oid[])
  AND l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND a.usename IS NOT NULL AND a.application_name NOT LIKE 'carveout/%%'
GROUP BY a.pid, 2, 3, 4, 5

-- name: statements_schema
SELECT n.nspname
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'

-- name: statements
-- By the words of the statement: a view or a function that uses the table is not seen, a word like the table's may be.
SELECT r.rolname::text, w.shown, sum(s.calls)::int8
FROM {schema}.pg_stat_statements s
JOIN pg_roles r ON r.oid = s.userid
JOIN (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS shown,
             '\m' || regexp_replace(c.relname, '(\W)', '\\\1', 'g') || '\M' AS pattern
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = ANY (%s::oid[])) w ON s.query ~ w.pattern
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND r.rolname <> current_user AND s.query ~* '^\s*(select|insert|update|delete|truncate|with|merge|copy)\M'
GROUP BY 1, 2

-- name: seen
SELECT kind, role, application, address, "table", times, first_seen, last_seen
FROM carveout.straggler
WHERE context = %s
ORDER BY last_seen DESC, kind, role, "table"
