-- name: accounts
INSERT INTO wallet.accounts (id, owner, currency, overdraft, status)
SELECT n, CASE n WHEN 1 THEN 'house' ELSE format('customer %%s', n) END, 'EUR',
       CASE n WHEN 1 THEN 999999999999.99 ELSE 0 END,
       CASE WHEN n > 1 AND n %% 97 = 0 THEN 'frozen'::wallet.account_status ELSE 'active' END
FROM generate_series(1, %(accounts)s::bigint) n

-- name: account_numbers
SELECT setval(pg_get_serial_sequence('wallet.accounts', 'id'), %(accounts)s)

-- name: openings
-- The house pays enough into each account for all its payments.
INSERT INTO wallet.ledger_entries (transaction_id, line, account_id, amount, currency, memo)
SELECT md5(format('opening %%s', n))::uuid, line, CASE line WHEN 1 THEN 1 ELSE n END,
       CASE line WHEN 1 THEN -1 ELSE 1 END * (500.00 + 10 * (%(payments)s / (%(accounts)s - 1) + 1)), 'EUR', 'opening'
FROM generate_series(2, %(accounts)s::bigint) n CROSS JOIN generate_series(1, 2) line
ORDER BY n, line

-- name: payments
-- From account a to account b, both spread over the customers; amounts of 0.01 to 9.99.
INSERT INTO wallet.ledger_entries (transaction_id, line, account_id, amount, currency, memo, created_at)
SELECT md5(format('payment %%s', n))::uuid, line,
       CASE line WHEN 1 THEN 2 + n %% (%(accounts)s - 1) ELSE 2 + (n * 7 + 1) %% (%(accounts)s - 1) END,
       CASE line WHEN 1 THEN -1 ELSE 1 END * (1 + n * 31 %% 999) / 100.0, 'EUR',
       CASE WHEN n %% 5 = 0 THEN NULL ELSE format('payment %%s', n) END,
       timestamptz '2024-01-01 00:00:00+00' + n * interval '1 minute'
FROM generate_series(1, %(payments)s::bigint) n CROSS JOIN generate_series(1, 2) line
ORDER BY n, line

-- name: holds
INSERT INTO wallet.holds (id, account_id, amount, state, expires_at)
SELECT md5(format('hold %%s', n))::uuid, n, 1.50, CASE n %% 3 WHEN 0 THEN 'open' WHEN 1 THEN 'released'
       ELSE 'expired' END::wallet.hold_state, timestamptz '2024-06-01 00:00:00+00' + n * interval '1 hour'
FROM generate_series(2, %(accounts)s::bigint, 10) n

-- name: balances
UPDATE wallet.accounts a
SET balance = e.total, available = e.total - coalesce(h.held, 0)
FROM (SELECT account_id, sum(amount) AS total FROM wallet.ledger_entries GROUP BY account_id) e
LEFT JOIN (SELECT account_id, sum(amount) AS held FROM wallet.holds WHERE state = 'open' GROUP BY account_id) h
  USING (account_id)
WHERE a.id = e.account_id

-- name: settlements
INSERT INTO history.settlements (id, points)
SELECT md5(format('settlement %%s', s))::uuid, sum(1 + n %% 20)
FROM generate_series(1, %(payments)s::bigint) n CROSS JOIN LATERAL (SELECT n / 100) AS batch (s)
WHERE n %% 3 = 0
GROUP BY s
ORDER BY s

-- name: points
INSERT INTO history.points (payment_id, account_id, points, state, settlement_id, category, memo, created_at)
SELECT md5(format('payment %%s', n))::uuid, 2 + n %% (%(accounts)s - 1), 1 + n %% 20,
       CASE n %% 3 WHEN 0 THEN 'confirmed' WHEN 1 THEN 'pending' ELSE 'expired' END::history.point_state,
       CASE n %% 3 WHEN 0 THEN md5(format('settlement %%s', n / 100))::uuid END,
       (ARRAY['groceries', 'travel', 'eating_out', 'other'])[1 + n %% 4],
       CASE WHEN n %% 4 = 0 THEN repeat(format('memo %%s ', n), 1 + (n %% 40)::int) END,
       timestamptz '2024-01-01 00:00:00+00' + n * interval '1 minute'
FROM generate_series(1, %(payments)s::bigint) n

-- name: registrations
INSERT INTO card.registrations (token, account_id, status, details, fingerprint)
SELECT md5(format('card %%s', n))::uuid, n, (ARRAY['pending', 'active', 'blocked'])[1 + n %% 3],
       jsonb_build_object('network', (ARRAY['visa', 'amex', 'jcb'])[1 + n %% 3], 'last4', lpad((n %% 10000)::text, 4, '0'),
                          'note', repeat('ä"\', (n %% 50)::int)),
       sha256(convert_to(format('card %%s', n), 'UTF8'))
FROM generate_series(2, %(accounts)s::bigint, 2) n
