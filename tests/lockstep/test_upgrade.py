"""A context that is in lockstep while Carveout is upgraded goes on with the functions that it was entered with."""

from __future__ import annotations

from pathlib import Path

from contexts import revisions
from contexts.databases import Databases
from migrator import sides

#: As it was generated until revision 0008, in short.
BEFORE = """
CREATE TABLE public.noted (id int PRIMARY KEY);
CREATE FUNCTION carveout.lockstep_touch_old_0() RETURNS trigger LANGUAGE plpgsql AS $carveout$
BEGIN
IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
INSERT INTO pg_temp.carveout_touched SELECT 'old', 0, ARRAY[pg_catalog.concat(t.id)] FROM new_rows t;
END IF;
RETURN NULL;
END $carveout$;
CREATE TRIGGER touch AFTER INSERT ON public.noted REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION carveout.lockstep_touch_old_0();
"""


def test_triggers_from_before_a_transactions_keys_were_in_a_setting(pair: Databases) -> None:
    revisions.upgrade(
        pair.shared, Path(sides.__file__).parent, version_table="revision_side", version_schema="carveout",
        target="0007",
    )  # fmt: skip
    with pair.shared.connect("test") as conn:
        conn.execute(BEFORE)
    sides.install(pair.shared)
    with pair.shared.connect("test") as conn, conn.transaction():
        conn.execute("SELECT carveout.lockstep_begin('old')")
        conn.execute("INSERT INTO public.noted VALUES (1), (2)")
        found = conn.execute("SELECT key FROM pg_temp.carveout_touched ORDER BY key").fetchall()
    assert found == [(["1"],), (["2"],)]
