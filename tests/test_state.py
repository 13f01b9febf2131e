from __future__ import annotations

import uuid

import psycopg
import pytest

from cdc import state
from cdc.state import position
from cdc.state.position import Fenced, Position, StreamId
from contexts.databases import Databases
from contexts.errors import StreamStopped

STREAM = StreamId("wallet", 1)
START = Position("7", 1, "carveout_wallet_1", 0x10)


def test_a_position_is_stored_taken_and_advanced(pair: Databases) -> None:
    state.install(pair.service)
    state.install(pair.service)  # again: nothing to do
    me, other = uuid.uuid4(), uuid.uuid4()
    with pair.service.connect("test") as conn:
        position.create(conn, STREAM, START)
        assert position.take(conn, STREAM, me) == START
        position.advance(conn, STREAM, me, 0x20, None)
        assert position.take(conn, STREAM, other).end_lsn == 0x20
        with pytest.raises(Fenced):
            position.advance(conn, STREAM, me, 0x30, None)
        with pytest.raises(psycopg.errors.UniqueViolation):
            position.create(conn, STREAM, START)


def test_a_stream_without_position_cannot_be_taken(pair: Databases) -> None:
    state.install(pair.service)
    with pair.service.connect("test") as conn, pytest.raises(StreamStopped, match="no position"):
        position.take(conn, STREAM, uuid.uuid4())
