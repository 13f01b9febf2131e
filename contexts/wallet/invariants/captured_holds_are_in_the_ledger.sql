-- proves: each captured hold took exactly its amount from its account, in the ledger transaction that it names
-- severity: critical
-- sides: shared, service
SELECT h.id AS hold_id, h.capture_id, h.amount, e.taken
FROM wallet.holds h
LEFT JOIN LATERAL (
    SELECT -sum(amount) AS taken
    FROM wallet.ledger_entries
    WHERE transaction_id = h.capture_id AND account_id = h.account_id
) e ON true
WHERE h.state = 'captured' AND e.taken IS DISTINCT FROM h.amount
