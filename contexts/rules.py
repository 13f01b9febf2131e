"""Stream rules: what must hold for every transaction that passes, as ``[[rules]]`` of ``context.toml`` declares it.

Only the declaration; :mod:`validations.rules` judges. A value is the text that PostgreSQL writes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from contexts.names import TableName, to_table_name

Policy = Literal["report", "stop"]
_TableField = Annotated[TableName, PlainValidator(to_table_name), PlainSerializer(str)]
_Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Names the rule in status, report and metrics; unique in its context.
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    table: _TableField
    #: What a violation does: ``report`` records it and goes on, ``stop`` applies nothing of that transaction until
    #: an operator accepts the violation.
    policy: Policy = "report"


class Balance(_Rule):
    """The rows that one transaction inserts sum to zero, in each group: double entry."""

    kind: Literal["balance"]
    #: An integer or numeric column.
    column: str
    group_by: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at."""
        return (self.column, *self.group_by)


class Transitions(_Rule):
    """A column moves only from one value to those that are allowed after it; NULL is no value."""

    kind: Literal["transitions"]
    column: str
    #: By value: those that may follow it. A value that is not named is an end.
    allowed: dict[str, tuple[str, ...]]
    #: The values that a new row may have; empty means any.
    initial: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at."""
        return (self.column,)


class Required(_Rule):
    """Rows with a certain value have others, too."""

    kind: Literal["required"]
    #: Column and value; all of them must match.
    when: Annotated[dict[str, str], Field(min_length=1)]
    #: Columns that are then not NULL.
    columns: _Columns

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at."""
        return (*self.when, *self.columns)


class Monotonic(_Rule):
    """A number of a row never goes down, and never away."""

    kind: Literal["monotonic"]
    #: An integer or numeric column.
    column: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at."""
        return (self.column,)


class Immutable(_Rule):
    """Columns keep the value that the row was inserted with."""

    kind: Literal["immutable"]
    columns: _Columns

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at."""
        return self.columns


class AppendOnly(_Rule):
    """Rows are added, and neither changed nor deleted."""

    kind: Literal["append_only"]

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at: none."""
        return ()


Rule = Annotated[Balance | Transitions | Required | Monotonic | Immutable | AppendOnly, Field(discriminator="kind")]
#: Kinds that compare a row with what it was before.
NEEDS_OLD = (Transitions, Monotonic, Immutable)
