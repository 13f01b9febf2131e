from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdc.source.subtransactions import Subtransactions

TOP = 2**32 - 3  # ids wrap around soon after
xids = st.integers(0, 8).map(lambda offset: (TOP + offset) & 0xFFFFFFFF)


@given(st.lists(st.tuples(xids, st.integers(0, 1), st.integers(0, 100))), st.lists(xids))
def test_it_counts_like_a_dictionary(records: list[tuple[int, int, int]], aborts: list[int]) -> None:
    parts, model = Subtransactions(TOP), dict[int, tuple[int, int]]()
    for xid, size, length in records:
        parts.add(xid, size, length)
        before = model.get(xid, (0, 0))
        model[xid] = (before[0] + size, before[1] + length)
    assert not parts.any_aborted
    for xid in aborts:
        assert parts.abort(xid) == model.pop(xid, (0, 0))
    assert parts.any_aborted is bool(aborts)
    for xid, _, _ in records:
        assert parts.is_aborted(xid) is (xid in aborts)
