-- proves: each account's balance, with its overdraft, covers the open holds on it
-- severity: critical
-- sides: shared, service
SELECT a.id AS account_id, a.balance, a.overdraft, coalesce(h.held, 0) AS held
FROM wallet.accounts a
LEFT JOIN (SELECT account_id, sum(amount) AS held FROM wallet.holds WHERE state = 'open' GROUP BY account_id) h
  ON h.account_id = a.id
WHERE coalesce(h.held, 0) > a.balance + a.overdraft
