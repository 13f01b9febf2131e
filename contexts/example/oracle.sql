-- name: ledger_entries
SELECT transaction_id::text, line::int, account_id, amount::text, currency::text, memo
FROM wallet.ledger_entries WHERE transaction_id = ANY (%(ids)s::uuid[])

-- name: holds
SELECT id::text, account_id, amount::text, state::text, capture_id::text
FROM wallet.holds WHERE id = ANY (%(ids)s::uuid[])

-- name: points
SELECT payment_id::text, account_id, points, state::text, settlement_id::text, category::text, memo
FROM history.points WHERE payment_id = ANY (%(ids)s::uuid[])

-- name: settlements
SELECT id::text, points FROM history.settlements WHERE id = ANY (%(ids)s::uuid[])

-- name: registrations
SELECT token::text, account_id, status, details::text, encode(fingerprint, 'hex'), network
FROM card.registrations WHERE token = ANY (%(ids)s::uuid[])

-- name: others_wallet
-- Rows that are not the load's own: how many, and a sum of hashes over all that never changes in them.
SELECT 'ledger_entries', count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to(
           row(e.id, transaction_id, line, account_id, amount, currency, memo, created_at)::text, 'UTF8')), 1, 7), 'hex'))
           ::bit(56)::bigint), 0)::text
FROM wallet.ledger_entries e
WHERE NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[]) AS own (id) WHERE own.id = transaction_id)
UNION ALL
SELECT 'holds', count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to(
           row(h.id, account_id, amount, state, capture_id, expires_at, created_at)::text, 'UTF8')), 1, 7), 'hex'))
           ::bit(56)::bigint), 0)::text
FROM wallet.holds h
WHERE NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[]) AS own (id) WHERE own.id = h.id)
UNION ALL
SELECT 'accounts', count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to(
           row(id, owner, currency, overdraft, status, created_at)::text, 'UTF8')), 1, 7), 'hex'))
           ::bit(56)::bigint), 0)::text
FROM wallet.accounts

-- name: others_history
SELECT 'points', count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to(p::text, 'UTF8')), 1, 7), 'hex'))
           ::bit(56)::bigint), 0)::text
FROM (
    SELECT id, payment_id, account_id, points, state, settlement_id, category, memo, created_at FROM history.points
    WHERE NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[]) AS own (id) WHERE own.id = payment_id)
) p
UNION ALL
SELECT 'settlements', count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to(s::text, 'UTF8')), 1, 7), 'hex'))
           ::bit(56)::bigint), 0)::text
FROM (
    SELECT id, number, points, settled_at FROM history.settlements
    WHERE NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[]) AS own (id) WHERE own.id = settlements.id)
) s

-- name: others_card
SELECT 'registrations', count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to(r::text, 'UTF8')), 1, 7), 'hex'))
           ::bit(56)::bigint), 0)::text
FROM (
    SELECT token, account_id, status, details, fingerprint, network, registered_at FROM card.registrations
    WHERE NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[]) AS own (id) WHERE own.id = token)
) r

-- name: versions
SELECT coalesce(sum(version), 0)::bigint FROM wallet.accounts

-- name: balances
SELECT a.id, a.balance::text, coalesce(e.total, 0)::text, a.available::text, coalesce(h.held, 0)::text
FROM wallet.accounts a
LEFT JOIN (SELECT account_id, sum(amount) AS total FROM wallet.ledger_entries GROUP BY account_id) e
  ON e.account_id = a.id
LEFT JOIN (SELECT account_id, sum(amount) AS held FROM wallet.holds WHERE state = 'open' GROUP BY account_id) h
  ON h.account_id = a.id
WHERE a.balance <> coalesce(e.total, 0) OR a.available <> a.balance - coalesce(h.held, 0)

-- name: unbalanced
SELECT transaction_id::text, sum(amount)::text FROM wallet.ledger_entries GROUP BY transaction_id HAVING sum(amount) <> 0
