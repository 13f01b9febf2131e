"""What happens on the closed side that should not: refused writes are counted, writes past the lock are noted."""

from alembic import op

revision = "0004"
down_revision = "0003"

#: The last refused writes that can be told apart; the worker looks every few seconds.
PLACES = 8

# A refused write rolls back, and every row with it. Sequences do not: they keep the number of the attempt, and in turn
# who it was.
SEQUENCES = "CREATE SEQUENCE carveout.refused;" + "".join(
    f"CREATE SEQUENCE carveout.refused_who_{place}; CREATE SEQUENCE carveout.refused_from_{place};"
    for place in range(PLACES)
)

STATEMENTS = """
COMMENT ON SEQUENCE carveout.refused IS 'How many writes the write locks of this database have refused';

CREATE FUNCTION carveout.count_refused(relation oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    place bigint := nextval('carveout.refused') % 8;
    client inet := inet_client_addr();
BEGIN
    PERFORM setval(('carveout.refused_who_' || place)::regclass,
                   ((SELECT oid FROM pg_roles WHERE rolname = session_user)::bigint << 31)
                   | (relation::bigint & 2147483647));
    PERFORM setval(('carveout.refused_from_' || place)::regclass,
                   (pg_backend_pid()::bigint << 32)
                   | CASE WHEN family(client) = 4 THEN client - '0.0.0.0'::inet ELSE 0 END);
EXCEPTION WHEN OTHERS THEN
    NULL;  -- a write is refused whether it could be counted or not
END $$;
COMMENT ON FUNCTION carveout.count_refused(oid) IS
    'Counts an attempt, and remembers role, table, process and IPv4 address of the last eight';

CREATE OR REPLACE FUNCTION carveout.write_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM carveout.count_refused(TG_RELID);
    RAISE EXCEPTION 'carveout: table %.% of context % is closed for writes in this database',
        TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'read_only_sql_transaction',
              HINT = format('write to the %s database', TG_ARGV[1]);
END $$;

CREATE TABLE carveout.rogue_write (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    "table" text NOT NULL,
    operation text NOT NULL,
    role text NOT NULL,
    application text NOT NULL,
    address text NOT NULL,
    at timestamptz NOT NULL,
    transaction text NOT NULL,
    reported boolean NOT NULL DEFAULT false,
    UNIQUE (context, transaction, "table", operation)
);
COMMENT ON TABLE carveout.rogue_write IS
    'Statements that wrote to a closed table past its write lock: not refused, since their session is in replica role';

CREATE FUNCTION carveout.note_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF current_setting('carveout.mover', true) = 'on'
       OR EXISTS (SELECT FROM carveout.route WHERE context = TG_ARGV[0] AND open_side <> TG_ARGV[1]) THEN
        RETURN NULL;  -- ours, or the side is open
    END IF;
    INSERT INTO carveout.rogue_write (context, "table", operation, role, application, address, at, transaction)
    VALUES (TG_ARGV[0], format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME), TG_OP, session_user,
            coalesce(current_setting('application_name', true), ''), coalesce(host(inet_client_addr()), 'local'),
            statement_timestamp(), pg_current_xact_id()::text)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION carveout.note_write() IS
    'Fires in replica role only; arguments: context, the side that is open while this one is closed';

CREATE TABLE carveout.straggler (
    context text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('refused', 'write', 'read', 'statement')),
    role text NOT NULL,
    application text NOT NULL,
    address text NOT NULL,
    "table" text NOT NULL,
    times bigint NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (context, kind, role, application, address, "table")
);
COMMENT ON TABLE carveout.straggler IS 'Who still uses the closed tables of this database, as far as it was seen';

CREATE TABLE carveout.watch (
    context text PRIMARY KEY,
    epoch int NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    looked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    looks bigint NOT NULL DEFAULT 0,
    refused_seen bigint NOT NULL
);
COMMENT ON TABLE carveout.watch IS 'Since when, and how often, the closed side was looked at';
"""


def upgrade() -> None:
    op.execute(SEQUENCES + STATEMENTS)


def downgrade() -> None:
    op.execute(
        "DROP TABLE carveout.watch, carveout.straggler, carveout.rogue_write CASCADE;"
        " DROP FUNCTION carveout.note_write(); DROP FUNCTION carveout.count_refused(oid) CASCADE;"
        " DROP SEQUENCE carveout.refused, "
        + ", ".join(f"carveout.refused_{kind}_{place}" for kind in ("who", "from") for place in range(PLACES))
    )
