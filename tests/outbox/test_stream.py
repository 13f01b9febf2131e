"""Rows of an outbox become events: which, with what, in which order, and once, wherever the stream stands."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.errors import RefusedError
from contexts.model import Side
from contexts.outbox import Outbox
from migrator import outbox
from migrator.lockstep import phase
from migrator.shims.direct import GatedConnections
from migrator.steps.complete import complete
from tests.migrator import inprocess
from tests.migrator.driving import driver, switch
from tests.migrator.test_json import COMMON, documented
from tests.outbox.shop import DECLARED, Shop
from tests.waiting import wait_until

PARTITIONED = """
CREATE TABLE shop.dated (
    id bigint, "At" timestamp(3) NOT NULL, kind varchar(20) NOT NULL, ref bigint, body bytea, PRIMARY KEY (id, "At")
) PARTITION BY RANGE ("At");
CREATE TABLE shop.dated_old PARTITION OF shop.dated FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE shop.dated_new PARTITION OF shop.dated FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE TABLE shop.said (id text PRIMARY KEY, aggregatetype text NOT NULL, aggregateid uuid, payload text);
"""
SEVERAL = (
    DECLARED
    + """
[[outbox]]
table = "shop.dated"
aggregate_type = "kind"
aggregate_id = "ref"
type = ""
payload = "body"
timestamp = "At"
topic = "dated-{aggregate_type}"

[[outbox]]
table = "shop.said"
type = ""
topic = "said"
"""
)


def test_only_inserted_rows_become_events(shop: Shop) -> None:
    one = uuid.uuid4()
    with inprocess.worker(shop.bank):
        shop.bank.await_streaming()
        shop.on(
            Side.SHARED,
            "INSERT INTO shop.orders VALUES (1, 9.90)",
            "INSERT INTO shop.outbox VALUES"
            f""" ('{one}', 'order', '1', 'made', '{{"b": 1.50,  "a": "é"}}', 'trace 7')""",
        )
        # A relay that deletes what it has just written leaves an empty table and an event.
        shop.on(
            Side.SHARED,
            "INSERT INTO shop.outbox (aggregatetype, aggregateid) VALUES ('order', '2')",
            "DELETE FROM shop.outbox WHERE aggregateid = '2'",
        )
        shop.on(Side.SHARED, "UPDATE shop.outbox SET trace = 'again'", "DELETE FROM shop.outbox")
        shop.on(Side.SHARED, "TRUNCATE shop.outbox")
        shop.tell(Side.SHARED, "end", [0])
        shop.await_numbers("end", [0])
    assert [key for (key,) in shop.events("key")] == ["1", "2", "end"]
    topic, headers, payload, at = shop.events("topic, headers, payload, at - now() < interval '1 minute'")[0]
    assert (topic, payload, at) == ("outbox.event.order", '{"a": "é", "b": 1.50}'.encode(), True)
    assert headers == [["id", str(one)], ["eventType", "made"], ["traceId", "trace 7"]]
    assert shop.events("payload, headers -> 1")[1] == (None, ["eventType", None])
    assert shop.waiting(Side.SERVICE) == 0


def test_payloads_partitions_and_times(tmp_path: Path, pair: Databases, arrived: Database) -> None:
    shop = Shop.create(
        tmp_path, pair, arrived, "shop.dated", "shop.said", more=PARTITIONED, declared=SEVERAL
    )  # fmt: skip
    with inprocess.worker(shop.bank):
        shop.bank.await_streaming()
        shop.on(
            Side.SHARED,
            r"INSERT INTO shop.dated VALUES (1, '2025-06-01 12:00:00.123', 'a', 7, '\x00ff5c'),"
            r" (2, '2026-06-01', 'b', NULL, '')",
            "INSERT INTO shop.said VALUES ('x', 'ignored', NULL, E'not {json\\n')",
        )
        wait_until(lambda: len(shop.events("id")) == 3)
    found = shop.events("topic, key, event_id, payload, (at AT TIME ZONE 'UTC')::text")
    assert found[0] == ("dated-a", "7", "1", b"\x00\xff\\", "2025-06-01 12:00:00.123")
    assert found[1] == ("dated-b", None, "2", b"", "2026-06-01 00:00:00")
    assert found[2][:4] == ("said", None, "x", b"not {json\n")


def test_rows_of_the_copy_are_no_events_and_all_that_come_after_it_are(
    tmp_path: Path, pair: Databases, arrived: Database
) -> None:
    """The copy takes many cycles, and what comes between them is on the closed side before it is streamed."""
    many = "INSERT INTO shop.orders SELECT i, 1 FROM generate_series(1, 12000) i; ALTER TABLE shop.orders ADD pad text;"
    shop = Shop.create(
        tmp_path, pair, arrived, more=many + "UPDATE shop.orders SET pad = repeat('x', 300);", copy_by="key",
        options="copy_part_mb = 1\ncopy_workers = 1\nmax_snapshot_age_s = 0.001",
    )  # fmt: skip
    shop.tell(Side.SHARED, "before", [1, 2])
    told = 0
    with inprocess.worker(shop.bank):
        wait_until(lambda: _has_position(shop))
        while shop.bank.state() == "copying":
            told += 1
            shop.tell(Side.SHARED, "meanwhile", [told])
        shop.bank.await_streaming()
        shop.tell(Side.SHARED, "meanwhile", [told + 1])
        shop.await_numbers("meanwhile", range(1, told + 2))
    assert shop.numbers("before") == []
    assert told > 3


def _has_position(shop: Shop) -> bool:
    with shop.bank.both.service.connect("test") as conn:
        return conn.execute("SELECT FROM carveout.position").fetchone() is not None


@pytest.mark.parametrize("point", ["apply.before_commit", "outbox.published"])
def test_a_killed_worker_neither_loses_nor_reorders(shop: Shop, point: str) -> None:
    with shop.bank.worker(CARVEOUT_KILL_AT=f"{point}:4") as worker:
        shop.bank.await_streaming()
        number = 0
        while worker.process.poll() is None and number < 5000:
            number += 1
            shop.tell(Side.SHARED, str(number % 3), [number])
    assert number < 5000, "the worker was not killed"
    with shop.bank.worker():
        for key in range(3):
            shop.await_numbers(str(key), [n for n in range(1, number + 1) if n % 3 == key])


def test_a_sink_that_is_away_holds_up_neither_the_stream_nor_a_switch_and_nothing_is_reordered(shop: Shop) -> None:
    with inprocess.worker(shop.bank):
        shop.bank.await_streaming()
        _take_sink_away(shop)
        shop.tell(Side.SHARED, "k", range(50))
        inprocess.verify(shop.bank)
        switch(shop.bank, Side.SERVICE)
        shop.tell(Side.SERVICE, "k", range(50, 100))
        wait_until(lambda: (shop.waiting(Side.SERVICE), shop.waiting(Side.SHARED)) == (50, 50))
        wait_until(lambda: _outbox_of(shop)["waiting"] == 100)
        assert "UndefinedTable" in _outbox_of(shop)["error"]
        with driver(shop.bank) as run, pytest.raises(RefusedError, match="100 events of its outbox are not published"):
            complete(run, drop_tables=False)
        inprocess.verify(shop.bank)
        switch(shop.bank, Side.SHARED)
        shop.tell(Side.SHARED, "k", range(100, 150))
        wait_until(lambda: (shop.waiting(Side.SERVICE), shop.waiting(Side.SHARED)) == (100, 50))
        _bring_sink_back(shop)
        shop.await_numbers("k", range(150))
        wait_until(lambda: shop.waiting(Side.SERVICE) + shop.waiting(Side.SHARED) == 0)


def test_the_end_waits_for_what_the_stream_has_not_brought(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits in the queue: no worker was there to put it in."""
    with inprocess.worker(shop.bank):
        shop.bank.await_streaming()
        shop.tell(Side.SHARED, "k", range(10))
        shop.await_numbers("k", range(10))
        inprocess.verify(shop.bank)
        switch(shop.bank, Side.SERVICE)
        shop.bank.await_streaming()
    shop.tell(Side.SERVICE, "k", range(10, 20))
    monkeypatch.setattr(outbox, "PUBLISHING_S", 0.5)
    with driver(shop.bank) as run, pytest.raises(RefusedError, match="has not brought the last rows of its outbox"):
        complete(run, drop_tables=False)
    assert shop.bank.state() == "switched"
    monkeypatch.undo()
    with inprocess.worker(shop.bank), driver(shop.bank) as run:
        complete(run, drop_tables=False)
    assert shop.numbers("k") == list(range(20))


def _outbox_of(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = shop.bank.status()["worker"]["outbox"]
    return found


def _take_sink_away(shop: Shop) -> None:
    with shop.arrived.connect("test") as conn:
        conn.execute("ALTER TABLE public.events RENAME TO away")


def _bring_sink_back(shop: Shop) -> None:
    with shop.arrived.connect("test") as conn:
        conn.execute("ALTER TABLE public.away RENAME TO events")


def test_what_applications_write_in_lockstep_is_told_once(tmp_path: Path, pair: Databases, arrived: Database) -> None:
    shop = Shop.create(tmp_path, pair, arrived, options="lockstep_census_s = 0")
    connect = {side: partial(psycopg.connect, pair[side].url) for side in Side}
    insert = "INSERT INTO shop.outbox (aggregatetype, aggregateid, payload) VALUES ('order', 'k', %s)"
    with inprocess.worker(shop.bank), closing(GatedConnections("shop", connect)) as gated:
        shop.bank.await_streaming()
        with driver(shop.bank) as run:
            phase.enter(run)
        for number in range(5):
            with gated.transaction() as conn:
                conn.execute(insert, (f'{{"n": {number}}}',))
        with pytest.raises(psycopg.errors.DivisionByZero):
            _fail(gated, insert)
        with driver(shop.bank) as run:
            phase.leave(run, "the test is over")
        shop.tell(Side.SHARED, "k", [5])
        shop.await_numbers("k", range(6))


def _fail(gated: GatedConnections, insert: str) -> None:
    with gated.transaction() as conn:
        conn.execute(insert.encode(), ('{"n": -1}',))
        conn.execute("SELECT 1 / 0")


def test_a_large_transaction_is_told_whole_and_in_order(tmp_path: Path, pair: Databases, arrived: Database) -> None:
    shop = Shop.create(tmp_path, pair, arrived, options="batch_rows = 700\nspool_mb = 0.1")
    with inprocess.worker(shop.bank):
        shop.bank.await_streaming()
        shop.on(
            Side.SHARED,
            "INSERT INTO shop.outbox (aggregatetype, aggregateid, payload)"
            " SELECT 'order', 'k', jsonb_build_object('n', i, 'pad', repeat('x', 200)) FROM generate_series(1, 5000) i",
        )
        shop.await_numbers("k", range(1, 5001))


def test_status_and_the_command_line_tell_what_waits(shop: Shop) -> None:
    with inprocess.worker(shop.bank):
        shop.bank.await_streaming()
        _take_sink_away(shop)
        shop.tell(Side.SHARED, "k", [1])
        wait_until(lambda: shop.waiting(Side.SERVICE) == 1)
        found = json.loads(shop.bank.cli("outbox", "status", "shop", "--json").stdout)
        assert (found["waiting"], found["held"], found["next_steps"]) == (1, 0, [])
        assert found.keys() - COMMON == documented("outbox status")
        _bring_sink_back(shop)
        shop.await_numbers("k", [1])
    [successor] = json.loads(shop.bank.cli("outbox", "connector", "shop").stdout)["connectors"]
    assert successor["config"]["transforms.outbox.table.fields.additional.placement"] == (
        "type:header:eventType,trace:header:traceId"
    )
    shop.on(Side.SERVICE, *successor["first"][:1])
    assert "0 events wait" in shop.bank.cli("outbox", "status", "shop").stdout


def test_a_declaration_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="sent anyway"):
        Outbox(table="a.b", headers={"eventType": "x"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most one"):
        Outbox(table="a.b", topic="{other}")  # type: ignore[arg-type]
