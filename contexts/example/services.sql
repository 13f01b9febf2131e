-- name: accounts
SELECT id FROM wallet.accounts WHERE status = 'active' AND overdraft = 0 ORDER BY id LIMIT 10000

-- name: entries
INSERT INTO wallet.ledger_entries (transaction_id, line, account_id, amount, currency, memo)
VALUES (%(id)s, 1, %(payer)s, -%(amount)s::numeric, %(currency)s, %(memo)s),
       (%(id)s, 2, %(payee)s, %(amount)s::numeric, %(currency)s, %(memo)s)

-- name: change_account
UPDATE wallet.accounts
SET balance = balance + %(balance)s::numeric, available = available + %(available)s::numeric, version = version + 1,
    updated_at = now()
WHERE id = %(account)s AND status = 'active'

-- name: point
INSERT INTO history.points (payment_id, account_id, points, category, memo)
VALUES (%(payment)s, %(account)s, %(points)s, %(category)s, %(memo)s)

-- name: open_hold
INSERT INTO wallet.holds (id, account_id, amount, expires_at)
VALUES (%(hold)s, %(account)s, %(amount)s::numeric, now() + interval '7 days')

-- name: close_hold
UPDATE wallet.holds SET state = %(state)s::wallet.hold_state, capture_id = %(capture)s WHERE id = %(hold)s AND state = 'open'

-- name: register
INSERT INTO card.registrations (token, account_id, details, fingerprint)
VALUES (%(token)s, %(account)s, %(details)s::jsonb, decode(%(fingerprint)s, 'hex'))

-- name: card_status
UPDATE card.registrations SET status = %(status)s WHERE token = %(token)s

-- name: remove_card
DELETE FROM card.registrations WHERE token = %(token)s

-- name: settlement
INSERT INTO history.settlements (id, points) VALUES (%(id)s, %(points)s)

-- name: confirm
UPDATE history.points SET state = 'confirmed', settlement_id = %(id)s
WHERE payment_id = ANY (%(payments)s::uuid[]) AND state = 'pending'

-- name: expire
UPDATE history.points SET state = 'expired' WHERE payment_id = %(payment)s AND state = 'pending'

-- name: memo
UPDATE history.points SET memo = %(memo)s WHERE payment_id = %(payment)s
