-- proves: each settlement holds exactly the points that were confirmed by it
-- severity: critical
-- sides: shared, service
SELECT s.id AS settlement_id, s.points, coalesce(p.total, 0) AS confirmed
FROM history.settlements s
LEFT JOIN (SELECT settlement_id, sum(points) AS total FROM history.points GROUP BY settlement_id) p
  ON p.settlement_id = s.id
WHERE s.points <> coalesce(p.total, 0)
