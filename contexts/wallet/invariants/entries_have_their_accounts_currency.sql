-- proves: each ledger entry belongs to an account and is in its currency
-- severity: error
-- sides: shared, service
SELECT e.id AS entry_id, e.account_id, e.currency, a.currency AS account_currency
FROM wallet.ledger_entries e
LEFT JOIN wallet.accounts a ON a.id = e.account_id
WHERE a.currency IS DISTINCT FROM e.currency
