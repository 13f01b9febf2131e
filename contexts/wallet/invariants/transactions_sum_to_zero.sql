-- proves: double entry: the lines of each ledger transaction sum to zero, in one currency, and there are at least two
-- severity: critical
-- sides: shared, service
SELECT transaction_id, sum(amount) AS total, count(*) AS lines, count(DISTINCT currency) AS currencies
FROM wallet.ledger_entries
GROUP BY transaction_id
HAVING sum(amount) <> 0 OR count(*) < 2 OR count(DISTINCT currency) <> 1
