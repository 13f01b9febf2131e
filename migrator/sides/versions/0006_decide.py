"""Transactions over several places: the witness of their decision, which is of the same kind as lockstep's."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = """
CREATE FUNCTION carveout.lockstep_decide(context text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    gid constant text := carveout.lockstep_gid(context);
BEGIN
    INSERT INTO carveout.lockstep_decision (gid, context) VALUES (gid, context);
    RETURN gid;
END $$;
COMMENT ON FUNCTION carveout.lockstep_decide(text) IS
    'Makes this transaction the decision for a part of it that is prepared elsewhere; gives the name for that'
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    op.execute("DROP FUNCTION carveout.lockstep_decide(text)")
