-- proves: no payment was given points twice
-- severity: critical
-- sides: shared, service
SELECT payment_id, count(*) AS times
FROM history.points
GROUP BY payment_id
HAVING count(*) > 1
