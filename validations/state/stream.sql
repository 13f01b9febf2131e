-- name: save
INSERT INTO carveout.verification_stream (verification, epoch, system_identifier, timeline, slot, end_lsn)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (verification) DO UPDATE
SET epoch = excluded.epoch, system_identifier = excluded.system_identifier, timeline = excluded.timeline,
    slot = excluded.slot, end_lsn = excluded.end_lsn

-- name: read
SELECT epoch, system_identifier, timeline, slot, end_lsn::text
FROM carveout.verification_stream WHERE verification = %s
