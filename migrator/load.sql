-- name: sessions
-- A role that may not see the state of others' sessions takes them for active: too slow is better than too hard.
SELECT count(*) FILTER (WHERE coalesce(state, 'active') = 'active'),
       count(*) FILTER (WHERE coalesce(state, 'active') = 'active' OR state_change > clock_timestamp() - '1 s'::interval)
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name NOT LIKE 'carveout/%'
