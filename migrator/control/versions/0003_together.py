"""Switches of several contexts that are decided together."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE carveout.switch ADD COLUMN together uuid")
    op.execute(
        "COMMENT ON COLUMN carveout.switch.together IS"
        " 'The same in all switches that are committed in one transaction, or none of them; null for one alone'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE carveout.switch DROP COLUMN together")
