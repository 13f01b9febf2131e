"""Indexes and constraints of the context wallet: built when the rows are there, with the stream going on.

Written from the shared database's own catalogs; edit it as any revision. There is no way down: the database is new.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
LOCK TABLE wallet.accounts, wallet.holds, wallet.ledger_entries IN ACCESS EXCLUSIVE MODE;
CREATE INDEX accounts_not_active ON wallet.accounts USING btree (status) WHERE (status <> 'active'::wallet.account_status);
CREATE UNIQUE INDEX accounts_owner_currency ON wallet.accounts USING btree (lower(owner), currency);
CREATE INDEX holds_open ON wallet.holds USING btree (account_id, expires_at) WHERE (state = 'open'::wallet.hold_state);
CREATE INDEX ledger_entries_account ON wallet.ledger_entries USING btree (account_id, created_at DESC) INCLUDE (amount);
ALTER TABLE wallet.accounts ADD CONSTRAINT accounts_currency_check
    CHECK ((currency ~ '^[A-Z]{3}$'::text));
ALTER TABLE wallet.accounts ADD CONSTRAINT accounts_overdraft_check
    CHECK ((overdraft >= (0)::numeric));
ALTER TABLE wallet.accounts ADD CONSTRAINT available_within_balance
    CHECK ((available <= balance));
ALTER TABLE wallet.accounts ADD CONSTRAINT enough_available
    CHECK ((available >= (- overdraft)));
ALTER TABLE wallet.holds ADD CONSTRAINT holds_capture_id_key
    UNIQUE (capture_id);
ALTER TABLE wallet.holds ADD CONSTRAINT captured_by_a_transaction
    CHECK (((state = 'captured'::wallet.hold_state) = (capture_id IS NOT NULL)));
ALTER TABLE wallet.holds ADD CONSTRAINT holds_amount_check
    CHECK ((amount > (0)::numeric));
ALTER TABLE wallet.ledger_entries ADD CONSTRAINT ledger_entries_transaction_id_line_key
    UNIQUE (transaction_id, line);
ALTER TABLE wallet.ledger_entries ADD CONSTRAINT ledger_entries_amount_check
    CHECK ((amount <> (0)::numeric));
ALTER TABLE wallet.holds ADD CONSTRAINT holds_account_id_fkey
    FOREIGN KEY (account_id) REFERENCES wallet.accounts(id);
ALTER TABLE wallet.ledger_entries ADD CONSTRAINT ledger_entries_account_id_fkey
    FOREIGN KEY (account_id) REFERENCES wallet.accounts(id);
"""


def upgrade() -> None:
    # A colon would be read as the beginning of a parameter.
    op.execute(STATEMENTS.replace(":", "\\:"))
