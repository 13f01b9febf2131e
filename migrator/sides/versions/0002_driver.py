"""The newest driver that has changed this side."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE carveout.route ADD COLUMN driver bigint NOT NULL DEFAULT 0")
    op.execute(
        "COMMENT ON COLUMN carveout.route.driver IS"
        " 'The newest driver that has changed write locks here; an older one may not any more'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE carveout.route DROP COLUMN driver")
