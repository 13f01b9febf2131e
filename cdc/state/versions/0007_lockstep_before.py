"""Lockstep: the rows as they were, for the rules and the versions."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = """
ALTER TABLE carveout.lockstep_table ADD COLUMN watched boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN carveout.lockstep_table.watched IS 'Whether the ledger has its rows as they were before';
ALTER TABLE carveout.lockstep_ledger ADD COLUMN before text[];
COMMENT ON COLUMN carveout.lockstep_ledger.before IS
    'Not null: the row as it was before the transaction, its columns as text, and nothing else; removed by the audit';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute(
        "ALTER TABLE carveout.lockstep_table DROP COLUMN watched;"
        " DELETE FROM carveout.lockstep_ledger WHERE before IS NOT NULL;"
        " ALTER TABLE carveout.lockstep_ledger DROP COLUMN before"
    )
