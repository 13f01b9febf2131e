-- name: replayed
-- Each row as its newest version left it. An update is the end of the old key and the beginning of the new one.
WITH seen AS (
    SELECT epoch, commit_lsn, ordinal, operation, old, new FROM {versions}
    WHERE epoch < {epoch} OR (epoch = {epoch} AND (commit_lsn < {lsn}::pg_lsn OR operation = 'baseline'))
), emptied AS (
    SELECT epoch, commit_lsn, ordinal FROM seen WHERE operation = 'truncate'
    ORDER BY epoch DESC, commit_lsn DESC, ordinal DESC LIMIT 1
), events AS (
    SELECT epoch, commit_lsn, ordinal, 0 AS step, {old_key} AS key, NULL::jsonb AS image FROM seen WHERE old IS NOT NULL
    UNION ALL
    SELECT epoch, commit_lsn, ordinal, 1, {new_key}, new FROM seen WHERE new IS NOT NULL
), newest AS (
    SELECT DISTINCT ON (key) key, image FROM events
    WHERE NOT EXISTS (SELECT FROM emptied e
                      WHERE (e.epoch, e.commit_lsn, e.ordinal) >= (events.epoch, events.commit_lsn, events.ordinal))
    ORDER BY key, epoch DESC, commit_lsn DESC, ordinal DESC, step DESC
)
SELECT key, sha256(convert_to(image::text, 'UTF8')) FROM newest WHERE image IS NOT NULL
ORDER BY key COLLATE "C"

-- name: present
SELECT r.key, r.hash
FROM (SELECT {key} AS key, sha256(convert_to({image}::text, 'UTF8')) AS hash FROM ONLY {table} AS t) r
ORDER BY r.key COLLATE "C"
