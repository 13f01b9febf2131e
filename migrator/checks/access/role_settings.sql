-- name: settings
-- A setting for this database beats the role's general one.
SELECT DISTINCT ON (r.rolname, split_part(s.entry, '=', 1))
       r.rolname, split_part(s.entry, '=', 1), substr(s.entry, strpos(s.entry, '=') + 1)
FROM pg_roles r
JOIN pg_db_role_setting x ON x.setrole = r.oid
 AND x.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
CROSS JOIN LATERAL unnest(x.setconfig) AS s (entry)
WHERE r.rolname = ANY (%s)
ORDER BY r.rolname, split_part(s.entry, '=', 1), x.setdatabase DESC
