"""What a stream through Debezium writes in place of an unchanged TOAST value: random, and the same for its lifetime.

Kept here and not only in the connector: one that is made again under another placeholder would turn the old one, in
events that wait in the topic, into a value.
"""

from __future__ import annotations

import secrets

from cdc.state.position import StreamId
from contexts.databases import Connection


def of(conn: Connection, stream: StreamId) -> str:
    """The stream's placeholder; made at the first call.

    :param conn: an autocommit connection to the closed side.
    """
    conn.execute(
        "INSERT INTO carveout.kafka_stream (context, epoch, placeholder) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (stream.context, stream.epoch, f"__carveout_unchanged_{secrets.token_hex(16)}"),
    )
    found = read(conn, stream)
    assert found is not None
    return found


def read(conn: Connection, stream: StreamId) -> str | None:
    """The stream's placeholder, or None where there is none yet, or no table for it."""
    if conn.execute("SELECT to_regclass('carveout.kafka_stream')").fetchone() == (None,):
        return None
    row = conn.execute(
        "SELECT placeholder FROM carveout.kafka_stream WHERE context = %s AND epoch = %s",
        (stream.context, stream.epoch),
    ).fetchone()
    return str(row[0]) if row else None
