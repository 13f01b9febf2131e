from __future__ import annotations

from contexts.databases import Databases
from contexts.model import Side
from tests.validations.support import Sides
from validations.diff.model import Verdict


def test_equal_and_different(pair: Databases) -> None:
    sides = Sides(pair)
    sides.both(
        "CREATE TABLE t (id int8 PRIMARY KEY, amount numeric(12,2), note text)",
        "INSERT INTO t SELECT i, i/7.0, 'n'||i FROM generate_series(1,20000) i",
        "ANALYZE t",
    )
    result = sides.diff()
    assert (result.verdict, result.rows) == (Verdict.EQUAL, 20000)
    sides.on(
        Side.SERVICE,
        "UPDATE t SET amount = -amount WHERE id = 500",
        "DELETE FROM t WHERE id = 20000",
        "INSERT INTO t VALUES (0, 1, NULL)",
    )
    result = sides.diff()
    print(result, sides.found(result))
    assert result.verdict is Verdict.DIFFERENT
    assert [(d.key, d.kind, d.columns) for d in sides.found(result)] == [
        (("0",), "missing_on_open", ()),
        (("20000",), "missing_on_closed", ()),
        (("500",), "different", ("amount",)),
    ]
