"""Runs suites on one side, or on both at one moment of the live stream."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from psycopg import sql

from contexts.catalog import Table, read_tables
from contexts.errors import ConfigError
from contexts.model import Side, TableName
from validations.barrier import Snapshot
from validations.snapshots import imported, require_as_they_were
from validations.suites import vocabulary
from validations.suites.asking import Asked, across, asked
from validations.suites.engine import Engine, engine_of
from validations.suites.model import Checked, Limits, Outcome, Result, Suite, SuiteResult
from validations.suites.quiet import quiet

#: Takes a suite, the side (None: both were compared) and the library's results, for its own pages.
Keep = Callable[[Suite, Side | None, list[Any]], None]


def require() -> None:
    """Import great-expectations, which takes seconds: before a barrier is asked for.

    :raises ConfigError: the extra is not installed.
    """
    try:
        with quiet():
            import_module("great_expectations")
    except ImportError as error:
        raise ConfigError("suites need an extra", next_step="pip install 'carveout[suites]'") from error


def check(
    snapshots: Mapping[Side, Snapshot], lsn: int | None, suites: Sequence[Suite], limits: Limits,
    keep: Keep = lambda *_: None,
) -> Checked:  # fmt: skip
    """Ask the sides inside their snapshots, read-only. With one side, what compares both is left out.

    :raises ConfigError: a suite says what great-expectations does not know, or the extra is not installed.
    :raises SnapshotGone: the barrier is over.
    :raises Rewritten: a table was truncated after its snapshot.
    :raises SideGone: a server went away.
    """
    require()
    vocabulary.check(suites)
    at, over = dt.datetime.now(dt.UTC), time.monotonic() + limits.all_s
    tables = {suite.table for suite in suites}
    with ExitStack() as stack:
        opened = {
            side: stack.enter_context(_open(snapshots[side], tables))
            for side in Side if side in snapshots
        }  # fmt: skip
        context = _context()
        results = [_suite(suite, opened, limits, over, context, keep) for suite in suites]
    return Checked(lsn, at, tuple(results))


@dataclass(frozen=True, slots=True)
class _Opened:
    """One side inside its snapshot."""

    snapshot: Snapshot
    tables: Mapping[TableName, Table]
    #: Those that have a row.
    filled: frozenset[TableName]


@contextmanager
def _open(snapshot: Snapshot, wanted: set[TableName]) -> Iterator[_Opened]:
    with imported(snapshot, "suites") as session:
        tables = read_tables(session, wanted)
        has_row = sql.SQL("SELECT EXISTS (SELECT FROM {})")
        filled = {
            name for name, table in tables.items()
            if name in wanted and session.execute(has_row.format(table.identifier())).fetchall() == [(True,)]
        }  # fmt: skip
        require_as_they_were(session)
        yield _Opened(snapshot, tables, frozenset(filled))


def _context() -> Any:
    """A context that lives in memory only; the one that it makes by itself leaves a folder behind."""
    with quiet():
        types: Any = import_module("great_expectations.data_context.types.base")
        stores = types.InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
        config = types.DataContextConfig(store_backend_defaults=stores)
        context: Any = import_module("great_expectations").get_context(project_config=config, mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
    return context


def _suite(
    suite: Suite, opened: Mapping[Side, _Opened], limits: Limits, over: float, context: Any, keep: Keep
) -> SuiteResult:
    began = time.monotonic()
    with ExitStack() as stack:
        ready = {}
        for side, one in opened.items():
            engine = stack.enter_context(engine_of(one.snapshot, limits.statement_s))
            ready[side] = _asked(suite, one, engine, limits, over, context)
        results = _results(suite, ready, keep)
    return SuiteResult(suite, results, (time.monotonic() - began) * 1000)


def _results(suite: Suite, ready: Mapping[Side, Asked], keep: Keep) -> tuple[Result, ...]:
    from validations.suites.expectations import ACROSS, other_side

    numbered = [*enumerate(suite.expectations)]
    asking = [(one, [entry for entry in numbered if entry[1].type not in ACROSS])
              for side, one in ready.items() if side in suite.sides]  # fmt: skip
    if len(ready) == len(Side):
        shared, service = ready[Side.SHARED], ready[Side.SERVICE]
        other_side.set(service.validator.execution_engine if service.validator else None)
        asking.append((across(shared, service), [entry for entry in numbered if entry[1].type in ACROSS]))
    found: dict[int, list[Outcome]] = {number: [] for number, _ in numbered}
    for one, wanted in asking:
        answers = one.outcomes(wanted)
        keep(suite, one.side, [raw for _, raw in answers.values() if raw is not None])
        for number, (outcome, _) in answers.items():
            found[number].append(outcome)
    # Of one side alone, what compares both is left out.
    return tuple(
        Result(expectation, tuple(found[number]))
        for number, expectation in numbered
        if found[number] or len(ready) == len(Side)
    )


def _asked(suite: Suite, one: _Opened, engine: Engine, limits: Limits, over: float, context: Any) -> Asked:
    table, reason = one.tables.get(suite.table), ""
    if table is None:
        reason = f"{suite.table} is not there"
    elif suite.table not in one.filled and not suite.may_be_empty:
        reason = f"{suite.table} has no row, so nothing was looked at (meta.carveout.may_be_empty allows it)"
    return asked(engine, table, reason, suite.may_be_empty, limits, over, context)
