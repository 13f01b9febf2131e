-- name: writing
SELECT s.subname, array_agg(r.srrelid::regclass::text ORDER BY r.srrelid::regclass::text)
FROM pg_subscription s
JOIN pg_subscription_rel r ON r.srsubid = s.oid
WHERE s.subenabled AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND r.srrelid = ANY (%s)
GROUP BY s.subname
ORDER BY 1
