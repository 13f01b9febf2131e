"""The number of the newest driver."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE carveout.migration ADD COLUMN driver bigint NOT NULL DEFAULT 0")
    op.execute(
        "COMMENT ON COLUMN carveout.migration.driver IS"
        " 'Counts the drivers that began or took over a switch; only the newest may end it'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE carveout.migration DROP COLUMN driver")
