-- proves: both sides hold back the same money: the sum of the open holds
-- severity: critical
-- sides: shared, service
-- kind: number
SELECT coalesce(sum(amount), 0) FROM wallet.holds WHERE state = 'open'
