"""The decoder against bytes built by hand: every message, every column state, every kind of damage."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.events import UNCHANGED, Delete, Insert, Message, Relation, RelationColumn, Truncate, Update
from cdc.source import messages as m
from cdc.source.frames import decode_frame
from cdc.source.pgoutput import Decoder, decode_relation
from cdc.source.wire import MalformedMessage
from contexts.model import TableName
from tests.source import wire

COLUMNS = (("id", 23, -1, True), ("amount", 1700, 655366, False), ("note", 4_000_000_000, -1, False))
T = wire.PG_EPOCH_US


@pytest.fixture
def decoder() -> Decoder:
    made = Decoder()
    assert made.decode(wire.relation(columns=COLUMNS)) is None
    return made


def test_a_relation_is_described_with_unsigned_oids() -> None:
    found = decode_relation(wire.relation(4_294_967_295, "Odd Table", COLUMNS, schema="Über", identity="f"))
    assert (found.oid, found.table, found.replica_identity) == (4_294_967_295, TableName("Über", "Odd Table"), "f")
    assert found.columns == (
        RelationColumn("id", 23, -1, True),
        RelationColumn("amount", 1700, 655366, False),
        RelationColumn("note", 4_000_000_000, -1, False),
    )


def test_an_empty_schema_means_pg_catalog() -> None:
    assert decode_relation(wire.relation(schema="")).table.schema == "pg_catalog"


def test_a_relation_is_replaced_by_the_next_and_older_mappings_stay(decoder: Decoder) -> None:
    before = decoder.relations
    decoder.decode(wire.relation(columns=(*COLUMNS, ("more", 25, -1, False))))
    assert len(before[16400].columns) == 3
    change = decoder.decode(wire.insert([b"1", None, None, b"x"]))
    assert isinstance(change, Insert)
    assert change.new == [b"1", None, None, b"x"]
    assert change.relation is decoder.relations[16400]


def test_every_column_state_of_an_insert(decoder: Decoder) -> None:
    change = decoder.decode(wire.insert([b"1", None, "u"]))
    assert isinstance(change, Insert)
    assert change.new == [b"1", None, UNCHANGED]
    empty = decoder.decode(wire.insert([b"1", b"null", b""]))
    assert isinstance(empty, Insert)
    assert empty.new == [b"1", b"null", b""]


@pytest.mark.parametrize(
    ("old", "kind", "full"),
    [(None, "K", False), ([b"1", None, None], "K", False), ([b"1", b"2.50", b"x"], "O", True)],
)
def test_updates_with_and_without_an_old_row(
    decoder: Decoder, old: list[wire.Cell] | None, kind: str, full: bool
) -> None:
    change = decoder.decode(wire.update([b"2", b"3.00", "u"], old, kind))
    assert isinstance(change, Update)
    assert (change.new, change.old, change.old_is_full) == ([b"2", b"3.00", UNCHANGED], old, full)


@pytest.mark.parametrize(("kind", "full"), [("K", False), ("O", True)])
def test_deletes(decoder: Decoder, kind: str, full: bool) -> None:
    change = decoder.decode(wire.delete([b"1", None, None], kind))
    assert isinstance(change, Delete)
    assert (change.old, change.old_is_full) == ([b"1", None, None], full)


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_truncate(decoder: Decoder, flags: int) -> None:
    decoder.decode(wire.relation(2, "other"))
    change = decoder.decode(wire.truncate([16400, 2], flags))
    assert isinstance(change, Truncate)
    assert [r.table.name for r in change.relations] == ["t", "other"]
    assert (change.cascade, change.restart_identity) == (bool(flags & 1), bool(flags & 2))


def test_a_logical_message_may_hold_any_bytes(decoder: Decoder) -> None:
    assert decoder.decode(wire.message("carveout", b"\0\xff", lsn=9)) == Message("carveout", b"\0\xff", 9)


def test_records_of_a_streamed_transaction_carry_a_xid() -> None:
    decoder = Decoder(streamed=True)
    assert decoder.decode(wire.type_(4_000_000_000, "public", "mood", xid=8)) is None
    assert decoder.decode(wire.relation(xid=8)) is None
    change = decoder.decode(wire.insert([b"5"], xid=9))
    assert isinstance(change, Insert)
    assert change.new == [b"5"]
    assert isinstance(decoder.decode(wire.update([b"5"], [b"4"], xid=9)), Update)
    assert isinstance(decoder.decode(wire.delete([b"5"], xid=9)), Delete)
    assert isinstance(decoder.decode(wire.truncate([16400], xid=9)), Truncate)
    assert decoder.decode(wire.message("p", b"c", xid=9)) == Message("p", b"c", 7)


GID = wire.text("gid 1")
FRAMES = [
    (wire.begin(2**63, 5, 2**32 - 1), m.Begin(2**63, T + 5, 2**32 - 1)),
    (wire.commit(1, 2, -3), m.Commit(1, 2, T - 3)),
    (b"O" + struct.pack(">Q", 9) + wire.text("up"), m.Origin(9, "up")),
    (wire.stream_start(4, True), m.StreamStart(4, True)),
    (wire.stream_start(4, False), m.StreamStart(4, False)),
    (wire.STREAM_STOP, m.StreamStop()),
    (wire.stream_commit(4, 1, 2, 3), m.StreamCommit(4, 1, 2, T + 3)),
    (wire.stream_abort(4, 5), m.StreamAbort(4, 5, None, None)),
    (b"A" + struct.pack(">IIQq", 4, 5, 6, 7), m.StreamAbort(4, 5, 6, T + 7)),
    (b"b" + struct.pack(">QQqI", 1, 2, 3, 4) + GID, m.BeginPrepare(1, 2, T + 3, 4, "gid 1")),
    (b"P" + struct.pack(">BQQqI", 0, 1, 2, 3, 4) + GID, m.Prepare(1, 2, T + 3, 4, "gid 1")),
    (b"p" + struct.pack(">BQQqI", 0, 1, 2, 3, 4) + GID, m.StreamPrepare(1, 2, T + 3, 4, "gid 1")),
    (b"K" + struct.pack(">BQQqI", 0, 1, 2, 3, 4) + GID, m.CommitPrepared(1, 2, T + 3, 4, "gid 1")),
    (b"r" + struct.pack(">BQQqqI", 0, 1, 2, 3, 4, 5) + GID, m.RollbackPrepared(1, 2, T + 3, T + 4, 5, "gid 1")),
]


@pytest.mark.parametrize(("payload", "expected"), FRAMES, ids=lambda x: type(x).__name__)
def test_frames(payload: bytes, expected: m.Frame) -> None:
    assert decode_frame(payload) == expected
    assert type(decode_frame(payload)) is type(expected)


RECORDS = [
    wire.relation(columns=COLUMNS), wire.type_(1, "s", "n"), wire.insert([b"1", None, b"abc"]),
    wire.update([b"1", None, b"abc"], [b"2", None, None]), wire.delete([b"1", None, None]),
    wire.truncate([16400]), wire.message("p", b"content"),
]  # fmt: skip


@pytest.mark.parametrize("payload", RECORDS, ids=lambda p: chr(p[0]))
def test_a_record_cut_short_or_too_long_is_refused_by_name(decoder: Decoder, payload: bytes) -> None:
    for damaged in [*(payload[:n] for n in range(1, len(payload))), payload + b"\0"]:
        with pytest.raises(MalformedMessage, match=r"(Relation|Type|Insert|Update|Delete|Truncate|Message) message"):
            decoder.decode(damaged)


@pytest.mark.parametrize("payload", [frame for frame, _ in FRAMES], ids=lambda p: chr(p[0]))
def test_a_frame_cut_short_or_too_long_is_refused_by_name(payload: bytes) -> None:
    whole = {9} if payload[:1] == b"A" else set()  # a short Stream Abort is a whole one of another version
    for damaged in [*(payload[:n] for n in range(1, len(payload)) if n not in whole), payload + b"\0"]:
        with pytest.raises(MalformedMessage, match=r"message of \d+ bytes"):
            decode_frame(damaged)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "unknown tag ''"),
        (b"?", "unknown tag '\\?'"),
        (wire.insert([b"1"]), "1 values for 3 columns of public.t"),
        (wire.insert([b"1", None, None], oid=77), "relation 77 was never described"),
        (wire.truncate([77]), "relation 77 was never described"),
        (wire.insert([b"1", None, "b\0\0\0\x01x"]), "kind 'b'"),
        (b"D" + wire.insert([b"1", None, None])[1:], "no old row"),
        (b"I" + wire.delete([b"1", None, None])[1:], "no new row"),
        (b"U" + struct.pack(">I", 16400) + b"X", "neither an old nor a new row"),
        (wire.message("p", b"\xff").replace(b"p\0", b"\xff\0"), "UTF-8"),
    ],
)
def test_damage_is_named(decoder: Decoder, payload: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        decoder.decode(payload)


def test_an_error_shows_no_row_value(decoder: Decoder) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decoder.decode(wire.insert([b"secret", b"secret", b"secret"]) + b"\0")
    assert "secret" not in "\n".join(caught.value.lines())


cells: st.SearchStrategy[wire.Cell] = st.one_of(st.none(), st.just("u"), st.binary(max_size=40))


@given(st.lists(cells, min_size=1, max_size=8))
def test_any_row_comes_back(row: list[wire.Cell]) -> None:
    columns = tuple(RelationColumn(str(n), 25, -1, False) for n in range(len(row)))
    decoder = Decoder({1: Relation(1, TableName("s", "t"), "d", columns)})
    change = decoder.decode(wire.insert(row, oid=1))
    assert isinstance(change, Insert)
    assert change.new == [UNCHANGED if cell == "u" else cell for cell in row]


@given(st.binary(max_size=60), st.sampled_from([Decoder().decode, Decoder(streamed=True).decode, decode_frame]))
def test_any_bytes_decode_or_are_refused(payload: bytes, decode: Callable[[bytes], object]) -> None:
    try:
        decode(payload)
    except MalformedMessage:
        return
    assert payload[:1] in {b"R", b"Y", b"M", b"T", b"O", b"E", b"B", b"C", b"S", b"c", b"A", b"b", b"P", b"p", b"K"}
