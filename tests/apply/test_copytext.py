from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.apply.copytext import blocks, encode
from cdc.events import ABSENT, UNCHANGED, Value

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(str.encode)
values = st.one_of(st.none(), texts, st.sampled_from([b"\\N", b"\\.", b"a\tb", b"\r\n", b"\\", b"", b"\xc3\xbf"]))


def decode(line: bytes) -> list[Value]:
    """One line of COPY text, read by its rules one byte at a time."""
    plain = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\"}
    found: list[Value] = []
    for field in line.split(b"\t"):
        if field == b"\\N":
            found.append(None)
            continue
        parts = iter([field[at : at + 1] for at in range(len(field))])
        found.append(b"".join(plain[next(parts)] if part == b"\\" else part for part in parts))
    return found


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(values, min_size=width, max_size=width), min_size=1)))
def test_every_value_survives(rows: list[list[Value]]) -> None:
    block = encode(rows)
    assert block.endswith(b"\n")
    assert [decode(line) for line in block[:-1].split(b"\n")] == rows


def test_blocks_hold_all_rows() -> None:
    rows: list[list[Value]] = [[b"%d" % number] for number in range(2500)]
    assert b"".join(blocks(rows)).split() == [row[0] for row in rows]
    assert list(blocks([])) == []


@pytest.mark.parametrize("value", [UNCHANGED, ABSENT, b"\xff", b"\xfe", b"\xfd"])
def test_what_cannot_be_written_is_refused(value: Value) -> None:
    with pytest.raises(ValueError):
        encode([[b"a", None], [value, b"b"]])
    with pytest.raises(ValueError):
        encode([[b"a", b"b"], [b"c", value]])
