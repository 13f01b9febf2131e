-- name: tables
-- A wallet, the ledger of its changes, and the transfers that caused them: the shape of the example contexts.
CREATE TABLE public.wallet (
    id bigint NOT NULL,
    owner uuid NOT NULL,
    currency char(3) NOT NULL,
    balance numeric(20, 4) NOT NULL,
    version integer NOT NULL,
    note text,
    updated_at timestamptz NOT NULL
);
CREATE TABLE public.ledger_entry (
    id bigint NOT NULL,
    wallet_id bigint NOT NULL,
    amount numeric(20, 4) NOT NULL,
    kind text NOT NULL,
    reference text NOT NULL,
    details jsonb,
    created_at timestamptz NOT NULL
);

-- name: keys
ALTER TABLE public.wallet ADD PRIMARY KEY (id);
ALTER TABLE public.ledger_entry ADD PRIMARY KEY (id);

-- name: indexes
CREATE INDEX ledger_entry_wallet ON public.ledger_entry (wallet_id, created_at);

-- name: wallets
INSERT INTO public.wallet
SELECT i, ('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 'EUR', 1000 + i % 997 * 0.01, 1,
       CASE WHEN i % 3 = 0 THEN 'wallet ' || i END, '2025-01-01Z'::timestamptz + i * interval '1 second'
FROM pg_catalog.generate_series(1, current_setting('bench.rows')::bigint) AS i;

-- name: entries
INSERT INTO public.ledger_entry
SELECT i, 1 + i * 7919 % current_setting('bench.wallets')::bigint, (i % 20011 - 10000) * 0.01,
       (ARRAY['deposit', 'withdrawal', 'transfer', 'fee'])[1 + i % 4], 'ref-' || md5(i::text),
       CASE WHEN i % 5 = 0 THEN jsonb_build_object('channel', 'app', 'attempt', i % 3) END,
       '2025-01-01Z'::timestamptz + i * interval '1 second'
FROM pg_catalog.generate_series(1, current_setting('bench.rows')::bigint) AS i;

-- name: small_transactions
-- A transfer each: two balances change, two ledger entries and a fee are added. Five rows.
DO $$
DECLARE
    wallets bigint := (SELECT count(*) FROM public.wallet);
    next_id bigint := (SELECT coalesce(max(id), 0) + 1 FROM public.ledger_entry);
    payer bigint;
    payee bigint;
BEGIN
    FOR i IN 1..current_setting('bench.transactions')::int LOOP
        payer := 1 + i * 7919::bigint % wallets;
        payee := 1 + (i * 7919::bigint + 31) % wallets;
        UPDATE public.wallet SET balance = balance - 1.01, version = version + 1, updated_at = clock_timestamp()
            WHERE id = payer;
        UPDATE public.wallet SET balance = balance + 1.00, version = version + 1, updated_at = clock_timestamp()
            WHERE id = payee;
        INSERT INTO public.ledger_entry VALUES
            (next_id, payer, -1.00, 'transfer', 'ref-' || i, '{"channel": "app"}', clock_timestamp()),
            (next_id + 1, payee, 1.00, 'transfer', 'ref-' || i, NULL, clock_timestamp()),
            (next_id + 2, payer, -0.01, 'fee', 'ref-' || i, NULL, clock_timestamp());
        next_id := next_id + 3;
        COMMIT;
    END LOOP;
END $$;

-- name: one_large_transaction
-- Half of the rows are new ledger entries, half are changed ones.
WITH added AS (
    INSERT INTO public.ledger_entry
    SELECT m.id + i, 1 + i % 1000, 0.5, 'interest', 'run-' || i, NULL, '2025-06-01Z'::timestamptz
    FROM (SELECT max(id) AS id FROM public.ledger_entry) AS m,
         pg_catalog.generate_series(1, current_setting('bench.large_rows')::bigint / 2) AS i
)
UPDATE public.ledger_entry SET reference = reference || '-closed'
WHERE id <= current_setting('bench.large_rows')::bigint / 2;

-- name: fingerprint
-- The same text on two databases that hold the same rows.
SELECT 'wallet ' || count(*) || ' ' || coalesce(sum(pg_catalog.hash_record_extended(t, 0)), 0)
FROM (SELECT w.id, w.owner, w.currency, w.balance, w.version, w.note, w.updated_at FROM public.wallet AS w) AS t
UNION ALL
SELECT 'ledger_entry ' || count(*) || ' ' || coalesce(sum(pg_catalog.hash_record_extended(t, 0)), 0)
FROM (SELECT e.id, e.wallet_id, e.amount, e.kind, e.reference, e.details, e.created_at FROM public.ledger_entry AS e)
     AS t
ORDER BY 1;

-- name: index_count
SELECT count(*) FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND i.indisvalid;

-- name: finish
-- The last transaction of a backlog: where it has arrived, all is applied.
UPDATE public.wallet SET note = 'finish' WHERE id = 1;

-- name: finished
SELECT 1 FROM public.wallet WHERE id = 1 AND note = 'finish';

-- name: receiving
SELECT 1 FROM pg_catalog.pg_stat_subscription WHERE received_lsn IS NOT NULL;
