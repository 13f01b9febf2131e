-- proves: what is available on each account is its balance less the open holds on it
-- severity: critical
-- sides: shared, service
SELECT a.id AS account_id, a.balance, a.available, coalesce(h.held, 0) AS held
FROM wallet.accounts a
LEFT JOIN (SELECT account_id, sum(amount) AS held FROM wallet.holds WHERE state = 'open' GROUP BY account_id) h
  ON h.account_id = a.id
WHERE a.available <> a.balance - coalesce(h.held, 0)
