-- proves: both sides hold the same points: the sum of all points that did not expire
-- severity: critical
-- sides: shared, service
-- kind: number
SELECT coalesce(sum(points), 0) FROM history.points WHERE state <> 'expired'
