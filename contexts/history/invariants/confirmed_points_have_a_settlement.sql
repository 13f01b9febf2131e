-- proves: a point has a settlement exactly when it is confirmed, and that settlement is there
-- severity: critical
-- sides: shared, service
SELECT p.payment_id, p.state, p.settlement_id
FROM history.points p
LEFT JOIN history.settlements s ON s.id = p.settlement_id
WHERE (p.state = 'confirmed') <> (s.id IS NOT NULL)
