"""The sender's side: a message is a row, written in the transaction of the rows that it tells of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from migrator.messaging.sessions import execute_of, statements_of


def statements(schema: str) -> Mapping[str, str]:
    """Every statement by name: ``outbox`` and ``inbox`` make the tables.

    :raises ValueError: the schema's name would need quotes.
    """
    return statements_of("migrator.messaging", schema)


class Outbox:
    """The outbox table of a service, with the columns that Debezium's Outbox Event Router expects.

    :param schema: where the service keeps ``outbox``.
    """

    def __init__(self, schema: str) -> None:
        self._sql = statements(schema)

    def send(self, session: Any, aggregate_type: str, aggregate_id: object, kind: str, payload: Any) -> uuid.UUID:
        """Write a message in the open transaction of ``session`` (psycopg or SQLAlchemy); its id.

        :param aggregate_type: leads to the topic.
        :param aggregate_id: the key: messages of one key keep their order.
        :param payload: a JSON value.
        """
        message_id = uuid.uuid4()
        values = (message_id, aggregate_type, str(aggregate_id), kind, Jsonb(payload))
        execute_of(session)(self._sql["send"], values)
        return message_id

    def clean(self, session: Any, older_than_s: float) -> None:
        """Delete rows that old: they are events since their commit, and deleting makes none."""
        execute_of(session)(self._sql["clean"], (older_than_s,))
