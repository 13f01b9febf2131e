"""What looks at the transactions of a stream while they pass: chosen by what the context declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdc.apply import Observer
from cdc.state.position import StreamId
from contexts.databases import Database, Databases
from contexts.model import Context
from validations import history, rules
from validations.history.recorder import HistoryRecorder
from validations.history.tables import versioned
from validations.rules.checker import RuleChecker


def observers_of(
    context: Context, stream: StreamId, both: Databases, closed: Database
) -> Callable[[], Sequence[Observer]]:
    """Makes the observers of one opened stream; none where nothing is declared, and then nothing is spent on them."""
    if context.rules:
        rules.install(closed)  # a context that was prepared before there were rules
    keeps_versions = bool(versioned(context))
    if keeps_versions:
        history.install(both.service)

    def make() -> list[Observer]:
        made: list[Observer] = [RuleChecker(stream, context.rules, closed)] if context.rules else []
        return [*made, HistoryRecorder(stream, context, both.service, closed.side)] if keeps_versions else made

    return make
