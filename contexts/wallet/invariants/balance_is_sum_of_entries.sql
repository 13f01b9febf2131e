-- proves: the balance of each account is the sum of its ledger entries
-- severity: critical
-- sides: shared, service
SELECT a.id AS account_id, a.balance, coalesce(e.total, 0) AS entries
FROM wallet.accounts a
LEFT JOIN (SELECT account_id, sum(amount) AS total FROM wallet.ledger_entries GROUP BY account_id) e
  ON e.account_id = a.id
WHERE a.balance <> coalesce(e.total, 0)
