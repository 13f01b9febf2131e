"""How a context's stream travels where it does not come straight from the server: section ``[kafka]``.

Every text may hold ``${VAR}``, which is read from the environment or from the file that ``VAR_FILE`` names.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, field_validator

Setting = str | int | bool


def _to_text(value: object) -> str:
    """Connect's settings are texts; TOML's numbers and booleans are as good."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("a connector setting is a text, a number or a boolean")


def require_security(given: dict[str, Setting]) -> dict[str, Setting]:
    """The options of kafka-python that may be set, without a password in the file.

    :raises ValueError: there are others.
    """
    if unknown := [key for key in given if not key.startswith(("security_", "sasl_", "ssl_"))]:
        raise ValueError(f"{unknown[0]}: only security_*, sasl_* and ssl_* can be set")
    return without_passwords(given)


def without_passwords(given: dict[str, Setting]) -> dict[str, Setting]:
    """The same settings.

    :raises ValueError: one holds a password.
    """
    for key, value in given.items():
        if "password" in key and "${" not in str(value):
            raise ValueError(f"{key}: holds a password; put ${{VAR}} there, or a reference to Connect's provider")
    return given


ConnectorSettings = dict[str, Annotated[str, PlainValidator(_to_text)]]


class Kafka(BaseModel):
    """Where Kafka and Kafka Connect are, and what is ours in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: ``host:port``, more than one separated by commas.
    bootstrap: str
    #: URL of Connect's REST interface; a user and password in it go into the ``Authorization`` header.
    connect: str
    #: Connectors and topics are named ``<prefix>_<context>_<epoch>``.
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")] = "carveout"
    #: Of the topics; -1 takes the cluster's default.
    replication_factor: Annotated[int, Field(ge=-1)] = -1
    #: Partitions of the rows. With more than one they are in a topic of their own, beside the ordered one.
    partitions: Annotated[int, Field(ge=1, le=64)] = 1
    #: kafka-python's own options for security: ``security_protocol``, ``sasl_mechanism``, ``ssl_cafile`` and so on.
    client: dict[str, Setting] = {}
    #: Settings that every connector gets in addition; those that would lose something are refused.
    connector: ConnectorSettings = {}
    #: The same for the connector that reads the shared database, such as ``database.hostname`` as Connect sees it.
    shared: ConnectorSettings = {}
    #: The same for the connector that reads the service database after a cutover.
    service: ConnectorSettings = {}
    #: Consumer group of the workers: of those that are started, Kafka says which one applies. Without it there is one.
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] | None = None
    #: A worker of a group that is silent for so long is replaced by another.
    group_session_s: Annotated[float, Field(ge=1, le=300)] = 10.0
    #: Array columns (``schema.table.column``) known to be one-dimensional and to begin at 1: nothing else is sent.
    plain_arrays: tuple[str, ...] = ()

    _client_is_about_security = field_validator("client")(require_security)
    _secrets_are_elsewhere = field_validator("connector", "shared", "service")(without_passwords)

    @field_validator("connect")
    @classmethod
    def _connect_is_a_url(cls, given: str) -> str:
        if not given.startswith(("http://", "https://", "${")):
            raise ValueError("write http://host:8083 or https://...")
        return given.rstrip("/")
