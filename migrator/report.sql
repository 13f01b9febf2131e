-- name: switches
SELECT from_side, to_side, outcome, started_at, ended_at, breakdown, reason
FROM carveout.switch WHERE context = %s ORDER BY started_at

-- name: events
SELECT at, actor, kind, detail FROM carveout.event WHERE context = %s ORDER BY id
