"""One table of one side as great-expectations sees it: takes expectations, gives back what became of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import sqlalchemy as sa

from contexts.catalog import Table
from contexts.databases import server_error
from contexts.errors import CarveoutError, DatabaseUnreachable
from contexts.model import Side
from validations.snapshots import SnapshotGone
from validations.suites.engine import Engine
from validations.suites.model import Expectation, Limits, Outcome
from validations.suites.quiet import quiet
from validations.suites.vocabulary import columns_of, configuration

Numbered = Sequence[tuple[int, Expectation]]
_SNAPSHOT_GONE = psycopg.errors.InvalidParameterValue
_GONE = (DatabaseUnreachable, psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown)
#: Types whose observed value is a count.
_COUNTED = ("expect_table_row_count_", "expect_table_column_count_", "unexpected_rows_")


class SideGone(CarveoutError):
    """A server went away while suites were run."""

    transient = True


@dataclass(frozen=True, slots=True)
class Asked:
    """A table ready to be asked, of one side or compared on both; where it cannot be, it has a reason instead."""

    #: None where both sides are compared.
    side: Side | None
    engines: tuple[Engine, ...]
    tables: tuple[Table, ...]
    limits: Limits
    #: When all must be over, by the monotonic clock.
    over: float
    #: Why nothing can be asked; empty where something can.
    reason: str
    may_be_empty: bool
    validator: Any = None

    def outcomes(self, wanted: Numbered) -> dict[int, tuple[Outcome, Any]]:
        """The outcome of each by its number, with the library's own result, which may hold values.

        :raises SideGone: the server went away.
        :raises SnapshotGone: the barrier is over.
        """
        known = {number: (Outcome(self.side, reason), None) for number, expectation in wanted
                 if (reason := self.reason or self._missing(expectation))}  # fmt: skip
        left = [(number, expectation) for number, expectation in wanted if number not in known]
        found = known | self._ask(left)
        for entry in left:  # an error may be another one's: each alone says its own
            if found[entry[0]][0].error and len(left) > 1:
                found |= self._ask([entry])
        return found

    def _missing(self, expectation: Expectation) -> str:
        for table in self.tables:
            there = {column.name for column in table.columns}
            wanted = columns_of(expectation)
            if missing := [name for name in wanted if name not in there]:
                return f"{table.name} has no column {', '.join(missing)}"
            if alike := [name for name in there if name not in wanted and name.casefold() in map(str.casefold, wanted)]:
                return f"great-expectations would mistake a column of {table.name} for {', '.join(alike)}"
        return ""

    def _ask(self, wanted: Numbered) -> dict[int, tuple[Outcome, Any]]:
        if not wanted:
            return {}
        if time.monotonic() > self.over:
            late = f"no time was left: all suites may take {self.limits.all_s:g} s"
            return {number: (Outcome(self.side, late), None) for number, _ in wanted}
        for engine in self.engines:
            engine.errors.clear()
        with quiet():
            results = self.validator.graph_validate(
                [configuration(expectation, number) for number, expectation in wanted],
                runtime_configuration={"result_format": _format(self.limits), "catch_exceptions": True},
            )
        self._raise_where_gone()
        by_number = {int(result.expectation_config.id): result for result in results}
        return {number: (self._outcome(expectation, by_number.get(number)), by_number.get(number))
                for number, expectation in wanted}  # fmt: skip

    def _errors(self) -> list[tuple[Side, Exception]]:
        return [(engine.side, error) for engine in self.engines for error in engine.errors]

    def _raise_where_gone(self) -> None:
        for side, error in self._errors():
            if isinstance(error, _SNAPSHOT_GONE) and "snapshot" in str(error):
                raise SnapshotGone(f"the {side} side's snapshot is gone", next_step="run the suites again")
            if isinstance(error, _GONE) or isinstance(server_error(error), DatabaseUnreachable):
                raise SideGone(
                    f"the {side} side went away: {' '.join(str(error).split())}",
                    unchanged="no result of the suites was stored",
                    next_step="run them again",
                ) from error

    def _outcome(self, expectation: Expectation, result: Any) -> Outcome:
        if result is None:
            return Outcome(self.side, "great-expectations gave no result")
        if _raised(result.exception_info):
            why = self._why(result.exception_info)
            # The library's own pages show what stands there.
            result.exception_info = {"raised_exception": True, "exception_message": why, "exception_traceback": why}
            return Outcome(self.side, why)
        answer: Mapping[str, Any] = result.result
        if no_answer := (answer.get("details") or {}).get("no_answer"):
            return Outcome(self.side, no_answer)
        rows, unexpected, observed = answer.get("element_count"), answer.get("unexpected_count"), ""
        if expectation.type.startswith(_COUNTED):
            observed = str(answer.get("observed_value", ""))
        elif expectation.type in _ours():
            observed = str(answer.get("observed_value") or "")
        if rows == 0 and not self.may_be_empty:
            return Outcome(self.side, "no row was looked at")
        shown = answer.get("partial_unexpected_list") if self.limits.keep_values else None
        values = None if shown is None else tuple(str(value) for value in shown)
        return Outcome(self.side, "", bool(result.success), rows, unexpected, observed, values)

    def _why(self, info: Mapping[str, Any]) -> str:
        """What a server or the library said, without the values that both may quote."""
        messages = _messages(info)
        if self.limits.keep_values:
            return "; ".join(messages) or "unknown error"
        for _, error in self._errors():
            if isinstance(error, psycopg.errors.QueryCanceled):
                return f"took longer than {self.limits.statement_s:g} s"
            if (named := server_error(error)) is not None:
                return named.message.removeprefix("a server refused: ")
        kinds = sorted({line.split(":")[0].rpartition(".")[2] for line in messages})
        return f"great-expectations could not answer ({', '.join(kinds)[:80]}); --show-values says more"


def asked(engine: Engine, table: Table | None, reason: str, may_be_empty: bool, limits: Limits, over: float,
          context: Any) -> Asked:  # fmt: skip
    """The table of a side; not asked where there is a reason."""
    validator = _validator(engine, table, context) if table is not None and not reason else None
    tables = () if table is None else (table,)
    return Asked(engine.side, (engine,), tables, limits, over, reason, may_be_empty, validator)


def across(shared: Asked, service: Asked) -> Asked:
    """The same table of both sides, compared: the shared one is asked and looks over to the other."""
    reasons = [f"{one.side}: {one.reason}" for one in (shared, service) if one.reason]
    return replace(
        shared, side=None, engines=shared.engines + service.engines, tables=shared.tables + service.tables,
        reason="; ".join(reasons),
    )  # fmt: skip


def _validator(engine: Engine, table: Table, context: Any) -> Any:
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
    from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
    from great_expectations.validator.validator import Validator

    execution = SqlAlchemyExecutionEngine(engine=engine.engine)  # one each: it keeps one table by one key
    schema, name = (sa.sql.quoted_name(part, True) for part in table.name)
    rows = sa.select(sa.text("*")).select_from(sa.table(name, schema=schema))
    data: Any = SqlAlchemyBatchData(
        execution_engine=execution, selectable=rows, create_temp_table=False, source_table_name=name,
        source_schema_name=schema,
    )  # fmt: skip
    return Validator(execution_engine=execution, batches=[Batch(data=data)], data_context=context)


def _format(limits: Limits) -> dict[str, Any]:
    return {"result_format": "BASIC", "partial_unexpected_count": limits.keep_values}


def _raised(info: Mapping[str, Any] | None) -> bool:
    """Whether there was an exception; the library nests them by metric, or does not."""
    if not info:
        return False
    return bool(info.get("raised_exception")) or any(
        isinstance(one, Mapping) and one.get("raised_exception") for one in info.values()
    )


def _messages(info: Mapping[str, Any]) -> list[str]:
    nested = [one for one in (info, *info.values()) if isinstance(one, Mapping)]
    return sorted({str(one["exception_message"]) for one in nested if one.get("exception_message")})


def _ours() -> frozenset[str]:
    from validations.suites.expectations import OURS

    return OURS
