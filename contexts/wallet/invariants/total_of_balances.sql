-- proves: both sides hold the same money: the sum of the customers' balances (all balances sum to zero)
-- severity: critical
-- sides: shared, service
-- kind: number
SELECT coalesce(sum(balance), 0) FROM wallet.accounts WHERE overdraft = 0
