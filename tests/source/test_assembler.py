"""Messages to transactions, without a server: order, interleaving, rollbacks, spooling and what is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from cdc.events import Idle, Insert, Message, Transaction
from cdc.source.assembler import Assembler, OutOfOrder
from cdc.source.spool import Spool, SpoolFull
from contexts.errors import StreamStopped
from tests.source import wire

BIG = 10_000_000


def assembler(folder: Path, memory: int = BIG, start: int = 0) -> Assembler:
    return Assembler(folder, memory, start)


def feed(to: Assembler, *payloads: bytes) -> list[Transaction]:
    return [t for t in map(to.receive, payloads) if t is not None]


def ids(transaction: Transaction) -> list[bytes]:
    """The first column of each inserted row, the content of each message."""
    found = []
    for change in transaction.changes:
        if isinstance(change, Insert):
            assert isinstance(change.new[0], bytes)
            found.append(change.new[0])
        elif isinstance(change, Message):
            found.append(change.content)
    return found


def block(xid: int, first: bool, *records: bytes) -> list[bytes]:
    return [wire.stream_start(xid, first), *records, wire.STREAM_STOP]


def rows(values: Iterable[int], xid: int | None = None) -> list[bytes]:
    return [wire.insert([str(v).encode()], xid=xid) for v in values]


def test_a_transaction_carries_its_commit(tmp_path: Path) -> None:
    (one,) = feed(assembler(tmp_path), wire.begin(100, 5, 700), wire.relation(), *rows([1, 2]), wire.commit(100, 150))
    assert (one.xid, one.commit_lsn, one.end_lsn, one.commit_time_us) == (700, 100, 150, wire.PG_EPOCH_US + 5)
    assert one.size == 2
    assert one.bytes == len(wire.relation()) + 2 * len(wire.insert([b"1"]))
    assert ids(one) == [b"1", b"2"]


def test_a_transaction_that_is_never_decoded_still_describes_relations(tmp_path: Path) -> None:
    made = feed(
        assembler(tmp_path),
        wire.begin(), wire.relation(), *rows([1]), wire.commit(100, 150),
        wire.begin(200), *rows([2]), wire.commit(200, 250),
    )  # fmt: skip
    assert ids(made[1]) == [b"2"]


def test_older_transactions_decode_with_the_relations_of_their_time(tmp_path: Path) -> None:
    wide = (("id", 23, -1, True), ("more", 23, -1, False))
    made = feed(
        assembler(tmp_path),
        wire.begin(), wire.relation(), *rows([1]), wire.commit(100, 150),
        wire.begin(200), *rows([2]), wire.commit(200, 250),
        wire.begin(300), wire.relation(columns=wide), wire.insert([b"3", b"x"]), wire.commit(300, 350),
    )  # fmt: skip
    assert [ids(t) for t in reversed(made)] == [[b"3"], [b"2"], [b"1"]]


def test_streamed_transactions_interleave_and_come_in_commit_order(tmp_path: Path) -> None:
    made = feed(
        assembler(tmp_path),
        *block(10, True, wire.relation(xid=10), *rows([1], 10)),
        *block(20, True, wire.relation(xid=20), *rows([2], 20)),
        wire.begin(90, xid=30), wire.relation(), *rows([3]), wire.commit(90, 95),
        *block(10, False, *rows([4], 10)),
        wire.stream_commit(20, 100, 110),
        wire.stream_commit(10, 120, 130),
    )  # fmt: skip
    assert [(t.xid, ids(t)) for t in made] == [(30, [b"3"]), (20, [b"2"]), (10, [b"1", b"4"])]


@pytest.mark.parametrize("memory", [BIG, 0], ids=["memory", "spool"])
def test_a_rolled_back_savepoint_loses_its_rows_and_keeps_its_relation(tmp_path: Path, memory: int) -> None:
    (made,) = feed(
        assembler(tmp_path, memory),
        *block(10, True, *rows([], 10), wire.type_(1, "s", "n", xid=11), wire.relation(xid=11), *rows([1, 2], 11)),
        wire.stream_abort(10, 11),
        *block(10, False, *rows([3], 10), wire.message("p", b"m", xid=12), *rows([4], 13)),
        wire.stream_abort(10, 12),
        wire.stream_commit(10, 100, 110),
    )
    assert made.size == 2
    assert made.bytes == 2 * len(wire.insert([b"3"], xid=10))
    assert ids(made) == [b"3", b"4"]


def test_an_aborted_streamed_transaction_is_gone(tmp_path: Path) -> None:
    one = assembler(tmp_path)
    assert not feed(one, *block(10, True, wire.relation(xid=10), *rows(range(9), 10)), wire.stream_abort(10, 10))
    assert one.memory == 0
    assert not feed(one, wire.stream_abort(99, 99))  # nothing of it was ever sent
    with pytest.raises(OutOfOrder, match="transaction 10 is not between two blocks"):
        one.receive(wire.stream_commit(10, 100, 110))


def test_the_newest_description_of_a_relation_wins_over_a_later_commit(tmp_path: Path) -> None:
    wide = (("id", 23, -1, True), ("more", 23, -1, False))
    made = feed(
        assembler(tmp_path),
        *block(10, True, wire.relation(xid=10), *rows([1], 10)),
        wire.begin(50), wire.relation(columns=wide), wire.insert([b"2", b"x"]), wire.commit(50, 60),
        wire.stream_commit(10, 100, 110),
        wire.begin(120), wire.insert([b"3", b"x"]), wire.commit(120, 130),
    )  # fmt: skip
    assert [ids(t) for t in made] == [[b"2"], [b"1"], [b"3"]]


def test_a_streamed_description_serves_later_transactions(tmp_path: Path) -> None:
    made = feed(
        assembler(tmp_path),
        *block(10, True, wire.relation(xid=10), *rows([1], 10)), wire.stream_commit(10, 100, 110),
        wire.begin(120), *rows([2]), wire.commit(120, 130),
    )  # fmt: skip
    assert [ids(t) for t in made] == [[b"1"], [b"2"]]


@pytest.mark.parametrize("streamed", [False, True])
def test_memory_stays_bounded_and_a_spooled_transaction_is_whole(tmp_path: Path, streamed: bool) -> None:
    limit, count = 50_000, 20_000
    one, xid = assembler(tmp_path, limit), 10 if streamed else None
    # Without streaming, only one that begins with a message is waited for.
    opening = [wire.stream_start(10, True)] if streamed else [wire.begin(), wire.message("p", b"m")]
    closing = [wire.STREAM_STOP, wire.stream_commit(10, 100, 110)] if streamed else [wire.commit()]
    feed(one, *opening, wire.relation(xid=xid))
    highest = 0
    for record in rows(range(count), xid):
        one.receive(record)
        highest = max(highest, one.memory)
    (made,) = feed(one, *closing)
    assert highest <= limit
    assert one.memory == 0
    first = [] if streamed else [b"m"]
    assert made.size == count + len(first)
    assert ids(made) == first + [str(n).encode() for n in range(count)]


def test_all_open_transactions_share_the_bound(tmp_path: Path) -> None:
    limit = 20_000
    one = assembler(tmp_path, limit)
    for xid in range(1, 50):
        feed(one, *block(xid, True, wire.relation(xid=xid), *rows(range(20), xid)))
        assert one.memory <= limit
    made = feed(one, *(wire.stream_commit(xid, xid * 100, xid * 100 + 50) for xid in range(1, 50)))
    assert [ids(t) for t in made] == [[str(n).encode() for n in range(20)]] * 49
    assert one.memory == 0


def test_a_spool_file_has_no_name_and_ends_with_its_transaction(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "spool"
    opening = [wire.begin(), wire.message("p", b"m"), wire.relation()]
    (made,) = feed(assembler(folder, 1000), *opening, *rows(range(100)), wire.commit())
    assert list(folder.iterdir()) == []
    assert len(ids(made)) == 101
    assert ids(made) == []  # once


def test_closing_a_spool_frees_it_unread(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"x")
    spool.close()
    with pytest.raises(ValueError, match="closed file"):
        list(spool.read())


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        return open("/dev/full", "r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    one = assembler(tmp_path, 1000)
    with pytest.raises(SpoolFull, match="No space left on device") as caught:
        feed(one, wire.begin(), wire.message("p", b"m"), wire.relation(), *rows(range(100_000)), wire.commit())
    assert str(tmp_path) in caught.value.message


def test_a_spool_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolFull, match="file"):
        Spool(tmp_path / "file")


def test_a_keepalive_is_idle_only_between_blocks_and_never_goes_back(tmp_path: Path) -> None:
    one = assembler(tmp_path, start=50)
    assert one.idle(40) is None
    assert one.idle(60) == Idle(60)
    assert one.idle(60) is None
    feed(one, wire.begin(100), wire.relation())
    assert one.idle(99) is None
    feed(one, wire.commit(100, 150))
    assert one.idle(150) is None
    assert one.idle(151) == Idle(151)
    feed(one, wire.stream_start(10, True))
    assert one.idle(170) is None
    feed(one, wire.STREAM_STOP)
    assert one.idle(170) == Idle(170)  # what is open now commits later
    assert one.floor == 170


def test_a_commit_behind_what_was_called_complete_stops_the_stream(tmp_path: Path) -> None:
    one = assembler(tmp_path)
    one.idle(200)
    with pytest.raises(StreamStopped, match=r"committed at 0/64, and everything before 0/C8"):
        feed(one, wire.begin(100), wire.commit(100, 150))


def test_messages_outside_of_transactions_are_dropped(tmp_path: Path) -> None:
    assert not feed(assembler(tmp_path), wire.message("p", b"x", flags=0))


@pytest.mark.parametrize(
    ("payloads", "reason"),
    [
        ([wire.insert([b"1"])], "no transaction has begun"),
        ([wire.message("p", b"x")], "no transaction has begun"),
        ([wire.commit()], "no such block"),
        ([wire.STREAM_STOP], "no such block"),
        ([wire.begin(), wire.begin()], "transaction 700 is not finished"),
        ([wire.begin(), wire.STREAM_STOP], "no such block"),
        ([wire.stream_start(5, True), wire.commit()], "no such block"),
        ([wire.stream_start(5, False)], "transaction 5 has never begun"),
        ([*block(5, True), wire.stream_start(5, True)], "transaction 5 has already begun"),
        ([wire.stream_start(5, True), wire.stream_commit(5, 1, 2)], "not between two blocks"),
        ([wire.stream_commit(5, 1, 2)], "not between two blocks"),
        ([b"b" + wire.commit()[2:] + b"\0\0\0\x01" + b"gid\0"], "two-phase"),
        ([b"K" + wire.commit()[1:] + b"\0\0\0\x01" + b"gid\0"], "two-phase"),
    ],
)
def test_what_the_protocol_does_not_allow_is_refused(tmp_path: Path, payloads: list[bytes], reason: str) -> None:
    with pytest.raises(OutOfOrder, match=reason):
        feed(assembler(tmp_path), *payloads)
