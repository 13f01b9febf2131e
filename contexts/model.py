"""What a bounded context is: its tables, roles, and how it moves.

The model mirrors ``contexts/<name>/context.toml`` one to one; units stand in the key names.
Unknown keys are refused, so a misspelt option can never be silently ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)

from contexts.names import CONTEXT_NAME, to_table_name
from contexts.names import Side as Side
from contexts.names import TableName as TableName
from contexts.outbox import Outbox, Sink
from contexts.rules import Rule
from contexts.transport import Kafka

TableField = Annotated[TableName, PlainValidator(to_table_name), PlainSerializer(str)]
Privilege = Literal["select", "insert", "update", "delete", "truncate", "references", "trigger"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(_Strict):
    """One table that moves."""

    name: TableField
    #: How the copy splits it: by ``ctid`` (fast, all parts under one snapshot) or by primary ``key`` ranges.
    copy_by: Literal["auto", "ctid", "key"] = "auto"
    #: Append every change to ``<table>_versions`` in the service database.
    versions: bool = False


class Grant(_Strict):
    """What one service role may do on some of the tables, on whichever side is open."""

    role: str
    privileges: tuple[Privilege, ...]
    #: Tables the grant covers; empty means all tables of the context.
    tables: tuple[TableField, ...] = ()


class Reference(_Strict):
    """A foreign key that the boundary cuts, kept as a declared cross-context reference."""

    table: TableField
    columns: tuple[str, ...]
    references: TableField
    referenced_columns: tuple[str, ...]


class Service(_Strict):
    """The service database."""

    #: libpq URL or conninfo; ``${VAR}`` is read from the environment or from the file that ``VAR_FILE`` names.
    url: str


class PgBouncer(_Strict):
    """One PgBouncer process through which applications reach the context."""

    #: What messages call it.
    name: str
    #: libpq URL of the admin console (database ``pgbouncer``, a role of ``admin_users``); ``${VAR}`` as in ``url``.
    admin: str
    #: The file that holds the database entries: ``pgbouncer.ini``, or one that it includes.
    config: str
    #: The entries that lead to the context's tables; empty: one with the context's name.
    databases: tuple[str, ...] = ()
    #: ``pause``: clients wait while a switch runs; ``reconnect``: they go on, and connect anew to the open side.
    how: Literal["pause", "reconnect"] = "pause"
    #: How this PgBouncer reaches each side (``host``, ``port``, ``dbname``), where Carveout's own URL is not the way.
    shared: str = ""
    service: str = ""

    @field_validator("shared", "service")
    @classmethod
    def _address_only(cls, value: str) -> str:
        if not set(_ADDRESS.findall(value)) <= {"host", "port", "dbname"} or _ADDRESS.sub("", value).strip():
            raise ValueError("only host=, port= and dbname= may stand here")
        return value


_ADDRESS = re.compile(r"(\w+)=[^\s']+")
Command = tuple[str, ...]


class Hooks(_Strict):
    """Commands that a switch runs; one that ends with an exit status other than 0 vetoes it."""

    #: Before writes are blocked: hold the traffic.
    on_pause: Command = ()
    #: While no side takes writes: lead the traffic to the side that ``CARVEOUT_SIDE`` names.
    on_switch: Command = ()
    #: Afterwards: let the traffic go.
    on_resume: Command = ()
    #: One that runs longer is ended, and counts as a veto.
    timeout_s: Annotated[float, Field(gt=0)] = 5.0


class Traffic(_Strict):
    """What stands between applications and databases, and is told at a switch."""

    pgbouncer: tuple[PgBouncer, ...] = ()
    hooks: Hooks = Hooks()

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Traffic:
        names = [bouncer.name for bouncer in self.pgbouncer]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"traffic.pgbouncer: listed twice: {', '.join(sorted(doubled))}")
        return self


class Options(_Strict):
    """How the migration runs; every default is safe for a busy production database."""

    copy_workers: Annotated[int, Field(ge=1, le=32)] = 2
    copy_part_mb: Annotated[int, Field(ge=1)] = 256
    #: The copy and the diff hold no snapshot on the open side longer than this.
    max_snapshot_age_s: Annotated[float, Field(gt=0)] = 600.0
    batch_rows: Annotated[int, Field(ge=1)] = 50_000
    batch_mb: Annotated[float, Field(gt=0)] = 16.0
    #: A batch of small transactions is committed at the latest after this time.
    batch_age_ms: Annotated[int, Field(ge=0)] = 100
    #: Transactions larger than this are spooled to disk instead of memory.
    spool_mb: Annotated[float, Field(gt=0)] = 16.0
    lock_timeout_ms: Annotated[int, Field(ge=1)] = 250
    #: A switch that is not fenced and drained by then goes back.
    switch_deadline_ms: Annotated[int, Field(ge=50)] = 5_000
    #: A switch that would keep writes waiting for longer goes back.
    write_block_budget_ms: Annotated[int, Field(ge=50)] = 3_000
    #: How long a switch looks for a moment at which no transaction stands in its way, before it gives up.
    hold_patience_s: Annotated[float, Field(ge=0)] = 60.0
    #: Time for comparing the keys changed last, while a switch keeps writes waiting (0: do not compare).
    recheck_budget_ms: Annotated[int, Field(ge=0)] = 200
    #: While others are active on the open side, ``verify`` reads for this share of the time and rests for the others.
    verify_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    #: A switch is refused while the stream is further behind than this.
    max_lag_s: Annotated[float, Field(gt=0)] = 5.0
    proof_max_age_s: Annotated[float, Field(gt=0)] = 3_600.0
    #: How long one statement of an invariant may run on a side.
    invariant_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    #: Added to each sequence at a switch, in increments, to clear values cached by sessions.
    sequence_margin: Annotated[int, Field(ge=0)] = 1_000
    #: How long a barrier waits for the transactions that run when it starts.
    barrier_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    #: What becomes of lockstep when the audit finds a difference: it is left (none), or goes on (any). Either way the
    #: rows are repaired.
    lockstep_tolerance: Literal["none", "any"] = "none"
    #: Lockstep is left where the service side cannot be reached for this long (0: never, writes are refused meanwhile).
    lockstep_fallback_s: Annotated[float, Field(ge=0)] = 0
    #: How long the stream must have shown no writer without the shim before lockstep may begin.
    lockstep_census_s: Annotated[float, Field(ge=0)] = 60.0
    #: How long after a cutover a rollback has to be possible; then `status` leads to `complete` (0: until `complete`).
    reverse_window_h: Annotated[float, Field(ge=0)] = 0
    #: After that window the way back is given up as soon as it keeps more of the service server's log than this.
    reverse_keep_mb: Annotated[float, Field(gt=0)] = 1_024
    #: Roles with rights on the shared tables that need nothing on the service side.
    roles_left_behind: tuple[str, ...] = ()
    #: How often the worker looks whether the closed side stays closed.
    watch_interval_s: Annotated[float, Field(gt=0)] = 2.0
    #: The worker pauses the copy, and ``verify`` its reading, while more sessions than this are active (0: never).
    throttle_active_sessions: Annotated[int, Field(ge=0)] = 0
    #: The same while a trivial query takes longer than this (0: never).
    throttle_probe_ms: Annotated[float, Field(ge=0)] = 0


class Context(_Strict):
    """A bounded context as declared in ``context.toml``."""

    name: str
    description: str = ""
    tables: tuple[Table, ...] = Field(min_length=1)
    service: Service
    grants: tuple[Grant, ...] = ()
    references: tuple[Reference, ...] = ()
    #: Where the stream comes from: straight from the server, or from Debezium through Kafka.
    source: Literal["embedded", "kafka"] = "embedded"
    kafka: Kafka | None = None
    #: What must hold for every transaction that passes.
    rules: tuple[Rule, ...] = ()
    #: Tables whose rows become events, and where those go.
    outbox: tuple[Outbox, ...] = ()
    outbox_sink: Sink | None = None
    traffic: Traffic = Traffic()
    options: Options = Options()
    #: The folder the context was read from: ``schema/``, ``suites/`` and ``invariants/`` live there.
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str) -> str:
        # The name becomes part of slot, publication and trigger names: lower case, digits, underscore.
        if not CONTEXT_NAME.fullmatch(value):
            raise ValueError("a context name is lower case letters, digits and underscores, at most 40 of them")
        return value

    @model_validator(mode="after")
    def _tables_are_consistent(self) -> Context:
        names = [table.name for table in self.tables]
        if doubled := {str(name) for name in names if names.count(name) > 1}:
            raise ValueError(f"tables: listed twice: {', '.join(sorted(doubled))}")
        for grant in self.grants:
            if foreign := [str(name) for name in grant.tables if name not in names]:
                raise ValueError(f"grants: role {grant.role!r} names tables that do not move: {', '.join(foreign)}")
        if self.source == "kafka" and self.kafka is None:
            raise ValueError('source: "kafka" needs a section [kafka] with bootstrap and connect')
        for reference in self.references:
            ends = f"{reference.table} to {reference.references}"
            if reference.table not in names and reference.references not in names:
                raise ValueError(f"references: {ends}: neither end moves")
            if len(reference.columns) != len(reference.referenced_columns) or not reference.columns:
                raise ValueError(f"references: {ends}: as many columns on one end as on the other")
        for rule in self.rules:
            if rule.table not in names:
                raise ValueError(f"rules: {rule.name!r} is about {rule.table}, which does not move")
        for outbox in self.outbox:
            if outbox.table not in names:
                raise ValueError(f"outbox: {outbox.table} does not move")
        if self.outbox and self.outbox_sink is None:
            raise ValueError('outbox: needs a section [outbox_sink] with kind = "kafka", "sqs" or "table"')
        rules = [rule.name for rule in self.rules]
        if twice := sorted({name for name in rules if rules.count(name) > 1}):
            raise ValueError(f"rules: two have the name {', '.join(twice)}")
        return self

    @property
    def table_names(self) -> tuple[TableName, ...]:
        """The tables in declared order."""
        return tuple(table.name for table in self.tables)


class SharedDatabase(_Strict):
    """The shared database."""

    url: str


class Project(_Strict):
    """``carveout.toml``: the shared database and the folder of the contexts."""

    shared: SharedDatabase
    contexts_dir: str = "contexts"
    #: Stands in front of every context.
    traffic: Traffic = Traffic()
    folder: Path = Field(default=Path(), exclude=True)
