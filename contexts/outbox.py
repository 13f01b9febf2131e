"""Outbox tables, as ``[[outbox]]`` of ``context.toml`` declares them, and ``[outbox_sink]``: where their events go.

The names of columns and topics default to those that Debezium's Outbox Event Router documents.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, field_validator

from contexts.names import TableName, to_table_name
from contexts.transport import Setting, require_security

_TableField = Annotated[TableName, PlainValidator(to_table_name), PlainSerializer(str)]
#: Stands in ``topic`` for the aggregate type of a row.
ROUTED = "{aggregate_type}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Outbox(_Strict):
    """A table whose inserted rows become events; its other changes become none."""

    table: _TableField
    #: The event's identity: header ``id``, by which a consumer knows a duplicate.
    id: str = "id"
    #: Leads to the topic.
    aggregate_type: str = "aggregatetype"
    #: The event's key: events of one key keep their order.
    aggregate_id: str = "aggregateid"
    #: The kind of event, sent as header ``eventType``; empty where the table has no such column.
    type: str = "type"
    #: text, varchar, json, jsonb (sent as text) or bytea (sent as it is); NULL is sent as a message without value.
    payload: str = "payload"
    #: The event's time; empty: the time of the commit.
    timestamp: str = ""
    #: Further columns to send, by name of the header.
    headers: dict[str, str] = {}
    topic: str = f"outbox.event.{ROUTED}"

    @field_validator("topic")
    @classmethod
    def _topic_has_one_place(cls, given: str) -> str:
        if given.count(ROUTED) > 1 or set(given.replace(ROUTED, "")) & set("{}"):
            raise ValueError(f"write a topic, with at most one {ROUTED} in it")
        return given

    @field_validator("headers")
    @classmethod
    def _headers_are_free(cls, given: dict[str, str]) -> dict[str, str]:
        if taken := {"id", "eventType"} & given.keys():
            raise ValueError(f"header {min(taken)!r} is sent anyway")
        return given

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        named = (self.id, self.aggregate_type, self.aggregate_id, self.type, self.payload, self.timestamp)
        return tuple(dict.fromkeys(filter(None, (*named, *self.headers.values()))))


class KafkaSink(_Strict):
    """Topics of a Kafka cluster."""

    kind: Literal["kafka"]
    #: As in ``[kafka]``, whose values are taken where these are not given.
    bootstrap: str = ""
    client: dict[str, Setting] = {}
    #: A topic that is not there is made with so many partitions; 0: its events are held until somebody makes it.
    partitions: Annotated[int, Field(ge=0)] = 0

    _client_is_about_security = field_validator("client")(require_security)


class SqsSink(_Strict):
    """FIFO queues of Amazon SQS; credentials come from where boto3 finds them."""

    kind: Literal["sqs"]
    #: The queue's name or URL, with ``{topic}`` where the event's topic goes (dots become dashes); ends in ``.fifo``.
    queue: Annotated[str, Field(pattern=r"\.fifo$")] = "{topic}.fifo"
    region: str = ""
    #: Another address than Amazon's.
    endpoint: str = ""


class TableSink(_Strict):
    """A table of a PostgreSQL database: ``topic``, ``key``, ``event_id``, ``headers``, ``payload``, ``at``."""

    kind: Literal["table"]
    url: str
    table: _TableField


Sink = Annotated[KafkaSink | SqsSink | TableSink, Field(discriminator="kind")]
