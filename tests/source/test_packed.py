from __future__ import annotations

import pytest

from cdc.events import Insert, Row, Update
from cdc.source import packed
from cdc.source.pgoutput import Decoder, decode_relation
from cdc.source.wire import MalformedMessage
from tests.source import wire

COLUMNS = [("id", 23, -1, True), ("code", 25, -1, True), ("v", 25, -1, False)]
RELATION = decode_relation(wire.relation(columns=COLUMNS))
ROWS: list[list[wire.Cell]] = [
    [b"1", b"a", b"text"], [b"", None, "u"], [None, b"x" * 255, b"y" * 256], [b"z" * 70_000, b"t\t\\", None],
    [b"tttt", b"n", b"u"],
]  # fmt: skip


@pytest.mark.parametrize("cells", ROWS)
def test_a_packed_record_holds_what_the_decoder_finds(cells: list[wire.Cell]) -> None:
    decoder = Decoder({RELATION.oid: RELATION})
    for record in (wire.insert(cells), wire.update(cells)):
        assert packed.is_packed(record)
        change = decoder.decode(record)
        assert change == packed.change(record, RELATION)
        assert isinstance(change, (Insert, Update))
        assert list(packed.rows([record, record], RELATION)) == [change.new, change.new]
        assert packed.is_insert(record) == isinstance(change, Insert)
        for places, expected in (((0,), 0), ((1,), 1), ((0, 1), slice(0, 2)), ((1, 0), slice(1, None, -1))):
            found: Row | object = change.new[expected]
            assert packed.key_reader(places)(record) == (tuple(found) if isinstance(found, list) else found)
        assert packed.may_hold_unchanged(record) or "u" not in cells


def test_what_holds_more_than_a_new_row_is_not_packed() -> None:
    cells: list[wire.Cell] = [b"1", b"2", b"3"]
    others = (wire.update(cells, cells, "K"), wire.update(cells, cells, "O"), wire.delete(cells), b"I", b"U123")
    assert not any(map(packed.is_packed, others))


def test_a_streamed_record_is_the_same_without_its_xid() -> None:
    assert packed.without_xid(wire.insert([b"1"], xid=7)) == wire.insert([b"1"])
    assert packed.without_xid(wire.relation(xid=7)) == wire.relation()


@pytest.mark.parametrize("cells", ROWS)
def test_no_part_of_a_record_passes_for_a_whole_one(cells: list[wire.Cell]) -> None:
    record = wire.insert(cells)
    for wrong in (*(record[:end] for end in range(8, len(record), 1 + len(record) // 50)), record + b"n"):
        with pytest.raises(MalformedMessage, match="Insert message"):
            list(packed.rows([wrong], RELATION))
    for end in range(8, 14):
        with pytest.raises(MalformedMessage):
            packed.key_reader((0,))(wire.insert([b"12345"])[:end])


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="not 3 values"):
        packed.change(wire.insert([b"1", b"2"]), RELATION)
