-- proves: the same money was moved on both sides: the sum of all that was ever paid in to an account
-- severity: critical
-- sides: shared, service
-- kind: number
SELECT coalesce(sum(amount), 0) FROM wallet.ledger_entries WHERE amount > 0
