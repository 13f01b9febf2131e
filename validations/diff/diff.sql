-- name: server
SELECT current_setting('server_version_num')::int, pg_encoding_to_char(d.encoding),
       to_jsonb(d) ->> 'datlocprovider' = 'b' OR d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
FROM pg_database d WHERE d.datname = current_database()

-- name: samples
SELECT hashint2extended(7::int2, 42), hashint4extended(-7, 42), hashint8extended(-7, 42), hashtextextended('a', 42),
       uuid_hash_extended('7d444840-9dc0-11d1-b245-5ffdce74fad2', 42),
       hash_record_extended(ROW(NULL::text, '\x00ff'::bytea, '2024-02-29'::date, 'b'::text), 42),
       hash_record_extended(ROW(numeric_send(-12.340), timestamptz_send('2024-02-29 12:00:00.000001+00'),
                                timestamp_send('infinity'), time_send('23:59:59.999999'), charsend('x')), 42)

-- name: correlation
SELECT s.correlation FROM pg_stats s WHERE s.schemaname = %s AND s.tablename = %s AND s.attname = %s

-- name: partitions
SELECT n.nspname, c.relname
FROM pg_partition_tree(%s::oid::regclass) p
JOIN pg_class c ON c.oid = p.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.level > 0

-- name: pages
SELECT pg_relation_size(%s::oid::regclass, 'main') / current_setting('block_size')::int

-- name: cuts_by_page
SELECT {key_text}
FROM (SELECT {columns}, row_number() OVER (ORDER BY {columns}) AS n, count(*) OVER () AS total
      FROM {table} AS t
      WHERE t.ctid = ANY (ARRAY(
          SELECT format('(%%s,%%s)', page * %(pages)s / %(samples)s, line)::tid
          FROM generate_series(0::int8, %(samples)s::int8 - 1) AS page, generate_series(1, 2) AS line
      ))) AS t
WHERE t.n > 1 AND mod(t.n - 1, greatest(1, t.total / %(parts)s)) = 0
ORDER BY t.n

-- name: cuts_by_rank
SELECT {key_text}
FROM (SELECT {columns}, row_number() OVER (ORDER BY {columns}) AS n FROM {table} AS t WHERE {condition}) AS t
WHERE t.n > 1 AND mod(t.n - 1, %(step)s) = 0
ORDER BY t.n

-- name: range_sums
SELECT b.n, s.rows, s.total
FROM {bounds}
CROSS JOIN LATERAL (SELECT count(*) AS rows, sum({row_hash}) AS total FROM {table} AS t WHERE {condition}) AS s

-- name: range_rows
SELECT s.key, s.hash
FROM {bounds}
CROSS JOIN LATERAL (SELECT {key_text} AS key, {row_hash} AS hash FROM {table} AS t WHERE {condition}) AS s

-- name: share_sum
SELECT count(*), sum({row_hash}) FROM {table} AS t WHERE {share}

-- name: bucket_sums
SELECT {bucket} AS bucket, count(*), sum({row_hash}) FROM {table} AS t WHERE {share} GROUP BY 1 ORDER BY 1

-- name: bucket_rows
SELECT s.bucket, s.key, s.hash
FROM (SELECT {bucket} AS bucket, {key_text} AS key, {row_hash} AS hash FROM {table} AS t
      WHERE {share} AND {bucket} = ANY (%(buckets)s::int8[])) AS s
ORDER BY s.bucket

-- name: bag_rows
SELECT s.bucket, s.hash, count(*)
FROM (SELECT {bucket} AS bucket, {row_hash} AS hash FROM {table} AS t
      WHERE {share} AND {bucket} = ANY (%(buckets)s::int8[])) AS s
GROUP BY 1, 2
ORDER BY 1

-- name: bag_texts
SELECT {row_hash}, {row_text} FROM {table} AS t WHERE {row_hash} = ANY (%(hashes)s::int8[])

-- name: keyed_rows
SELECT {key_text}, {row_hash} FROM {keys} JOIN {table} AS t ON {join}

-- name: keyed_columns
SELECT {key_text}, ARRAY[{hashes}]::int8[], {values} FROM {keys} JOIN {table} AS t ON {join}
