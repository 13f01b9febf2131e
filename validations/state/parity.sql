-- name: save
INSERT INTO carveout.verification_parity (verification, schema, sequences, grants) VALUES (%s, %s, %s, %s)
ON CONFLICT (verification) DO UPDATE
SET schema = excluded.schema, sequences = excluded.sequences, grants = excluded.grants

-- name: read
SELECT schema, sequences, grants FROM carveout.verification_parity WHERE verification = %s
