-- name: prepared
SELECT x.gid, x.database, round(extract(epoch FROM clock_timestamp() - x.prepared))::int,
       array(SELECT DISTINCT l.relation::regclass::text
             FROM pg_locks own
             JOIN pg_locks l ON l.virtualtransaction = own.virtualtransaction AND l.locktype = 'relation'
             WHERE own.locktype = 'transactionid' AND own.transactionid = x.transaction
               AND x.database = current_database() AND l.relation = ANY (%s)
             ORDER BY 1)
FROM pg_prepared_xacts x
ORDER BY x.prepared
