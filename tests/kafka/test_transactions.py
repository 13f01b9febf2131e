"""What the assembler makes of streams that Debezium should not, or only after a crash, send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.events import UNCHANGED, Idle, Insert, Transaction, Update
from cdc.kafka.decoder import Decoder, Undecodable
from cdc.kafka.settings import HEARTBEAT_PREFIX, Encoding
from contexts.catalog import Column, Generated, Identity, Table
from contexts.errors import SchemaMismatch
from contexts.model import TableName

NAME = TableName("app", "t")
PLACEHOLDER = "__carveout_unchanged_0123456789abcdef"


def column(name: str, oid: int, type_sql: str) -> Column:
    return Column(name, type_sql, oid, -1, oid, type_sql, "b", 0, False, Identity.NO, Generated.NO, "", True)


TABLE = Table(NAME, 1, "r", "d", "x", (column("id", 23, "integer"), column("v", 25, "text")), ("id",), ("id",), 0, 0)


def record(decoder: Decoder, payload: dict[str, Any] | None, offset: int = 0, **headers: bytes) -> Any:
    value = None if payload is None else json.dumps(payload).encode()
    return decoder.record(
        value, [(f"__debezium.{k}".replace("run", "context.runId"), v) for k, v in headers.items()], offset
    )


def boundary(status: str, xid: int, lsn: int, count: int | None = None) -> dict[str, Any]:
    return {"status": status, "id": f"{xid}:{lsn}", "event_count": count, "data_collections": None, "ts_ms": 1}


def event(
    op: str, xid: int, order: int, *, before: object = None, after: object = None, lsn: int = 50, table: str = "t"
) -> dict[str, Any]:
    source = {
        "schema": "app",
        "table": table,
        "lsn": lsn,
        "txId": xid,
        "sequence": '["1","2"]',
        "ts_ms": 1,
        "ts_us": 1000,
    }
    place = {"id": f"{xid}:{lsn}", "total_order": order, "data_collection_order": order}
    return {"op": op, "before": before, "after": after, "source": source, "transaction": place, "ts_ms": 1}


def message(xid: int | None, lsn: int, prefix: str = "p") -> dict[str, Any]:
    place = {"id": f"{xid}:{lsn}", "total_order": 1, "data_collection_order": 1} if xid else None
    sequence = '["1","2"]'
    source = {"schema": "", "table": "", "lsn": lsn, "txId": xid, "sequence": sequence, "ts_ms": 1, "ts_us": 1000}
    return {"op": "m", "source": source, "transaction": place, "message": {"prefix": prefix, "content": "AP8Q"}}


def row(n: int, v: str | None = "x") -> dict[str, Any]:
    return {"id": n, "v": v}


@pytest.fixture
def decoder() -> Decoder:
    return Decoder({NAME: TABLE}, Encoding(placeholder=PLACEHOLDER), end_lsn=10)


def test_a_transaction_is_whole_and_has_its_place(decoder: Decoder) -> None:
    assert record(decoder, boundary("BEGIN", 7, 50), 0) is None
    assert not decoder.is_between
    assert record(decoder, event("c", 7, 1, after=row(1))) is None
    assert record(decoder, None) is None
    assert record(decoder, {"ts_ms": 1}) is None
    done = record(decoder, boundary("END", 7, 90, 1), 4)
    assert isinstance(done, Transaction)
    assert (done.xid, done.commit_lsn, done.end_lsn, done.commit_time_us, done.ordinal) == (7, 89, 90, 1000, 5)
    assert [c.new for c in done.changes if isinstance(c, Insert)] == [[b"1", b"x"]]
    assert decoder.is_between


def test_a_transaction_sent_again_is_dropped_whole(decoder: Decoder) -> None:
    for _ in range(2):
        record(decoder, boundary("BEGIN", 7, 50))
        record(decoder, event("c", 7, 1, after=row(1)))
        last = record(decoder, boundary("END", 7, 90, 1))
    assert last is None
    record(decoder, boundary("BEGIN", 8, 90))
    record(decoder, event("c", 8, 1, after=row(2)))
    assert isinstance(record(decoder, boundary("END", 8, 120, 1)), Transaction)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([event("c", 7, 1, after=row(1))], "outside of it"),
        ([boundary("BEGIN", 7, 50), event("c", 8, 1, after=row(1))], "outside of it"),
        ([boundary("BEGIN", 7, 50), event("c", 7, 2, after=row(1))], "event 2 came where 1 was due"),
        ([boundary("BEGIN", 7, 50), event("c", 7, 1, after=row(1)), event("c", 7, 1, after=row(1))], "came where 2"),
        ([boundary("BEGIN", 7, 50), event("c", 7, 1, after=row(1)), boundary("END", 7, 90, 2)], "and 1 arrived"),
        ([boundary("END", 7, 90, 0)], "without its beginning"),
        ([boundary("BEGIN", 7, 50), boundary("END", 8, 90, 0)], "without its beginning"),
        ([boundary("BEGIN", 7, 50), event("d", 7, 1)], "a delete without the old row"),
        ([boundary("BEGIN", 7, 50), event("d", 7, 1, before=row(1)) | {"op": "x"}], "unknown shape"),
        ([boundary("BEGIN", 7, 50), event("c", 7, 1, after={"id": "1", "v": "x"})], "column id: no integer"),
        ([boundary("BEGIN", 7, 50), event("r", 7, 1, after=row(1))], "a row of a snapshot"),
    ],
)
def test_what_is_missing_or_wrong_stops_the_stream(decoder: Decoder, events: list[Any], why: str) -> None:
    for one in events[:-1]:
        record(decoder, one)
    with pytest.raises(Undecodable, match=why):
        record(decoder, events[-1])


def broken_off(decoder: Decoder) -> None:
    """Two of three rows arrive, then the connector goes on after a restart."""
    record(decoder, boundary("BEGIN", 7, 50))
    for n in (1, 2):
        record(decoder, event("c", 7, n, after=row(n), lsn=60 + n), run=b"one")
    assert record(decoder, event("c", 7, 3, after=row(3), lsn=70), run=b"two") is None
    assert decoder.is_broken
    assert record(decoder, boundary("END", 7, 90, 3)) is None
    record(decoder, boundary("BEGIN", 8, 90))
    record(decoder, event("c", 8, 1, after=row(8), lsn=95), run=b"two")
    assert record(decoder, boundary("END", 8, 99, 1)) is None, "what comes after it waits for it"


def test_a_transaction_that_was_broken_off_is_taken_when_it_comes_again_whole(decoder: Decoder) -> None:
    broken_off(decoder)
    record(decoder, boundary("BEGIN", 7, 50))
    assert not decoder.is_broken
    for n, lsn in ((1, 61), (2, 62), (3, 62), (4, 70)):  # one more than the connector had sent at its restart
        record(decoder, event("c", 7, n, after=row(n), lsn=lsn), run=b"three")
    assert [c.new[0] for c in record(decoder, boundary("END", 7, 90, 4)).changes] == [b"1", b"2", b"3", b"4"]
    record(decoder, boundary("BEGIN", 8, 90))
    record(decoder, event("c", 8, 1, after=row(8), lsn=95), run=b"three")
    assert record(decoder, boundary("END", 8, 99, 1)).xid == 8


def test_a_transaction_that_only_goes_on_stays_broken(decoder: Decoder) -> None:
    broken_off(decoder)
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(3), lsn=70), run=b"three")
    assert decoder.is_broken
    for _ in range(3):
        record(decoder, boundary("BEGIN", 7, 50))
        record(decoder, event("c", 7, 1, after=row(1), lsn=61), run=b"four")
        assert record(decoder, boundary("END", 7, 90, 1)) is None, "two were there before"
        assert decoder.is_broken
    record(decoder, boundary("BEGIN", 7, 50))
    with pytest.raises(Undecodable, match="came 6 times, and never whole"):
        record(decoder, boundary("END", 7, 90, 0))


#: What the connector sends into the topic whenever it starts.
STARTED = {"id": "u", "aggregate_type": "Initial Snapshot", "type": "SKIPPED", "additional_data": {}, "timestamp": 1}


def test_an_end_that_only_a_started_connector_sent_is_not_believed(decoder: Decoder) -> None:
    """Two of four rows of one COPY, which share their position; the end's count is that of the rows that were sent."""
    record(decoder, boundary("BEGIN", 7, 50))
    for n in (1, 2):
        record(decoder, event("c", 7, n, after=row(n), lsn=60), run=b"one")
    record(decoder, STARTED)
    assert record(decoder, boundary("END", 7, 90, 2)) is None
    assert decoder.is_broken
    record(decoder, STARTED)
    record(decoder, boundary("BEGIN", 7, 50))
    for n in (1, 2, 3, 4):
        record(decoder, event("c", 7, n, after=row(n), lsn=60), run=b"three")
    assert record(decoder, boundary("END", 7, 90, 4)).size == 4


def test_an_end_that_a_started_connector_sends_again_is_passed_over(decoder: Decoder) -> None:
    """Its offset stood at the last row: it goes on with what came after that."""
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(1)))
    assert isinstance(record(decoder, boundary("END", 7, 90, 1)), Transaction)
    record(decoder, STARTED)
    assert record(decoder, boundary("END", 7, 90, 1)) is None
    record(decoder, boundary("BEGIN", 8, 90))
    record(decoder, event("c", 8, 1, after=row(2)))
    assert isinstance(record(decoder, boundary("END", 8, 120, 1)), Transaction)


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("prefix", [HEARTBEAT_PREFIX, "p"])
def test_nothing_is_missing_from_a_heartbeats_transaction(decoder: Decoder, after: int, prefix: str) -> None:
    """Wherever in it the connector is restarted; anybody else's message may have rows beside it."""
    sent = [boundary("BEGIN", 7, 50), message(7, 60, prefix), boundary("END", 7, 90, 1)]
    for one in [*sent[:after], STARTED, *sent[after:-1]]:
        assert record(decoder, one) is None
    last = record(decoder, sent[-1], 4)
    assert last == (Idle(90, 5) if prefix == HEARTBEAT_PREFIX else None)
    assert decoder.is_broken == (prefix == "p")


def test_an_end_that_is_said_twice_is_no_other_transactions(decoder: Decoder) -> None:
    """The second one at the position of the message that the started connector sends next."""
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(1)))
    assert isinstance(record(decoder, boundary("END", 7, 90, 1)), Transaction)
    record(decoder, STARTED)
    assert record(decoder, boundary("END", 7, 120, 1)) is None
    assert decoder.end_lsn == 90
    assert record(decoder, message(None, 120), 5) == Idle(120, 6)
    with pytest.raises(Undecodable, match="the end of transaction 8 came without its beginning"):
        record(decoder, boundary("END", 8, 150, 1))


def test_a_connector_that_starts_between_transactions_breaks_nothing(decoder: Decoder) -> None:
    record(decoder, STARTED)
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, STARTED)
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(1)))
    assert record(decoder, boundary("END", 7, 90, 1)).size == 1
    assert record(decoder, {**STARTED, "aggregate_type": "Incremental Snapshot"}) is None


@pytest.mark.parametrize("again", [7, 8])
def test_a_transaction_without_its_end_is_broken_off(decoder: Decoder, again: int) -> None:
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(1), lsn=61))
    record(decoder, boundary("BEGIN", again, 50))
    assert decoder.is_broken is (again == 8)
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(1), lsn=61))
    assert record(decoder, boundary("END", 7, 90, 1)).size == 1


def test_a_changed_key_is_one_update_under_the_old_key(decoder: Decoder) -> None:
    record(decoder, boundary("BEGIN", 7, 50))
    # Columns beside the key arrive as NULL or as their default: neither is meant.
    record(decoder, event("d", 7, 1, before=row(1, "default")), newkey=b"{}")
    record(decoder, None)
    record(decoder, event("c", 7, 2, after=row(2, PLACEHOLDER)), oldkey=b"{}")
    done = record(decoder, boundary("END", 7, 90, 2))
    [update] = done.changes
    assert isinstance(update, Update)
    assert (update.old, update.new, update.old_is_full) == ([b"1", None], [b"2", UNCHANGED], False)


@pytest.mark.parametrize("after", [event("c", 7, 2, after=row(2)), boundary("END", 7, 90, 1), message(7, 60)])
def test_half_a_changed_key_stops_the_stream(decoder: Decoder, after: dict[str, Any]) -> None:
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("d", 7, 1, before=row(1)), newkey=b"{}")
    if after["op" if "op" in after else "status"] == "m":
        after["transaction"]["total_order"] = 2
    with pytest.raises(Undecodable):
        record(decoder, after)


def test_a_new_row_without_its_old_key_stops_the_stream(decoder: Decoder) -> None:
    record(decoder, boundary("BEGIN", 7, 50))
    with pytest.raises(Undecodable, match="without the old one"):
        record(decoder, event("c", 7, 1, after=row(2)), oldkey=b"{}")


def test_the_placeholder_is_a_value_where_nothing_can_be_unchanged(decoder: Decoder) -> None:
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, event("c", 7, 1, after=row(1, PLACEHOLDER)))
    record(decoder, event("u", 7, 2, after=row(1, PLACEHOLDER)))
    insert, update = record(decoder, boundary("END", 7, 90, 2)).changes
    assert insert.new[1] == PLACEHOLDER.encode()
    assert update.new[1] is UNCHANGED


def test_messages_outside_of_transactions_are_idle_events(decoder: Decoder) -> None:
    idle = record(decoder, message(None, 60), 3)
    assert (idle.lsn, idle.ordinal) == (60, 4)
    assert record(decoder, message(None, 60)) is None
    record(decoder, boundary("BEGIN", 7, 50))
    record(decoder, message(7, 70, HEARTBEAT_PREFIX))
    assert isinstance(record(decoder, boundary("END", 7, 90, 1)), Idle)
    record(decoder, boundary("BEGIN", 8, 50))
    record(decoder, message(8, 95))
    done = record(decoder, boundary("END", 8, 99, 1))
    assert [(m.prefix, m.content, m.lsn) for m in done.changes] == [("p", b"\x00\xff\x10", 95)]


def test_tables_and_columns_that_are_not_known_stop_the_stream(decoder: Decoder) -> None:
    record(decoder, boundary("BEGIN", 7, 50))
    with pytest.raises(SchemaMismatch, match="other is in the stream"):
        record(decoder, event("c", 7, 1, after=row(1), table="other"))
    for after, why in (({"id": 1}, "column v is not in the event"), ({**row(1), "w": 1}, "column w is new")):
        fresh = Decoder({NAME: TABLE}, Encoding(placeholder=PLACEHOLDER))
        record(fresh, boundary("BEGIN", 7, 50))
        with pytest.raises(SchemaMismatch, match=why):
            record(fresh, event("c", 7, 1, after=after))


def test_a_connector_that_forgot_its_place_stops_the_stream_unless_it_sends_again(decoder: Decoder) -> None:
    def forgetful(xid: int, end: int) -> Any:
        record(decoder, boundary("BEGIN", xid, 50))
        change = event("c", xid, 1, after=row(xid))
        change["source"]["sequence"] = '[null,"2"]'
        record(decoder, change)
        return record(decoder, boundary("END", xid, end, 1))

    assert forgetful(7, 60).end_lsn == 60, "the first of all knows of none before"
    assert forgetful(7, 60) is None, "what is sent again proves that nothing is missing"
    silent = message(None, 80)
    silent["source"]["sequence"] = '[null,"2"]'
    assert record(decoder, silent) is None, "no place that is not proven"
    with pytest.raises(Undecodable, match="began without its place before transaction 8"):
        forgetful(8, 90)
