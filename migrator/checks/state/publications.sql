-- name: foreign
SELECT p.pubname, p.puballtables, array_agg(DISTINCT c.oid::regclass::text) FILTER (WHERE c.oid IS NOT NULL)
FROM pg_publication p
LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname
LEFT JOIN pg_namespace n ON n.nspname = t.schemaname
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename AND c.oid = ANY (%s)
WHERE p.pubname NOT LIKE 'carveout%%'
GROUP BY p.pubname, p.puballtables
HAVING p.puballtables OR count(c.oid) > 0
ORDER BY 1
