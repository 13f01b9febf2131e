-- proves: double entry: in each currency the whole ledger sums to zero
-- severity: critical
-- sides: shared, service
SELECT currency, sum(amount) AS total
FROM wallet.ledger_entries
GROUP BY currency
HAVING sum(amount) <> 0
