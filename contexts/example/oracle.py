"""The judge of a load: compares its ledger with the databases, value by value.

Everything acknowledged must be there exactly once with its amounts, nothing rejected may be there, a transaction of
unknown outcome must be there as a whole or not at all, no row may be there that nobody wrote, all that was there
before must be untouched, and the balances must be the sums of the entries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.pq import TransactionStatus

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.example import expected, ledger
from contexts.example.expected import Doubt, Entity, Expected, State
from contexts.example.ledger import Entry, Outcome

_SQL = sqlfiles.load("contexts.example", "oracle.sql")
#: The tables whose rows the load makes, by context.
CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "wallet": (expected.ENTRIES, expected.HOLDS),
    "history": (expected.POINTS, expected.SETTLEMENTS),
    "card": (expected.CARDS,),
}
#: Under these a row has one text form, whatever the server's own settings are.
_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO", "bytea_output": "hex", "search_path": "pg_catalog"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    #: lost, doubled, changed, rejected (but there), torn, others, version, balance or unbalanced.
    kind: str
    object: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.object}: {self.detail}"


@dataclass
class Verdict:
    """What the judge saw."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    #: Transactions of unknown outcome that turned out to have happened.
    unknown_happened: int = 0
    #: Entities of the load that were looked up, and their rows that were found.
    entities: int = 0
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """No problem, and there was something to judge."""
        return not self.problems and self.outcomes[Outcome.ACKNOWLEDGED] > 0

    def __str__(self) -> str:
        counts = ", ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in Outcome)
        seen = f"{counts}; {self.entities} entities, {self.rows} rows, {len(self.problems)} problems"
        return "\n".join([seen, *map(str, self.problems[:20])])


def oracle(where: Connection | Mapping[str, Connection], path: Path) -> Verdict:
    """Judge a load that has ended by its ledger at ``path``.

    :param where: the database of all contexts, or that of each one by name: the open sides. The connections' role
        may read all tables. Each is read under one snapshot; one that is inside a transaction is read as that sees it.
    :raises LedgerBroken: the ledger itself makes no sense, or it does not say what was there before.
    """
    account = ledger.read(path)
    if missing := CONTEXTS.keys() - account.baseline.keys():
        raise ledger.LedgerBroken(f"{path}: no baseline of {', '.join(sorted(missing))}: was the load started?")
    told = expected.replay(account.entries)
    connections = where if isinstance(where, Mapping) else dict.fromkeys(CONTEXTS, where)
    actual: dict[Entity, State] = {}
    found: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for context, tables in CONTEXTS.items():
        conn = connections[context]
        with _one_snapshot(conn):
            actual |= _read(conn, tables, told.states)
            found[context] = fingerprint(conn, context, told.states)
            problems += _sums(conn) if context == "wallet" else ()
    happened = [doubt.entry for doubt in told.doubts if _happened(doubt, actual)]
    problems += [
        *(problem for entity in told.states for problem in _judge(entity, told, actual[entity])),
        *(problem for doubt in told.doubts for problem in _torn(doubt, actual)),
        *_others(account.baseline, found),
        *_versions(account, happened, found),
    ]
    return Verdict(
        Counter(entry.outcome for entry in account.entries),
        len(happened),
        len(told.states),
        sum(map(len, actual.values())),
        problems,
    )


def fingerprint(conn: Connection, context: str, own: Iterable[Entity]) -> dict[str, Any]:
    """Count and hash of the context's rows that are not the load's ``own``; call it inside a transaction."""
    for name, value in _SETTINGS.items():
        conn.execute("SELECT set_config(%s, %s, true)", (name, value))
    ids = [key for table, key in own if table in CONTEXTS[context]]
    found: dict[str, Any] = {
        table: [rows, total] for table, rows, total in conn.execute(_SQL[f"others_{context}"], {"ids": ids})
    }
    if context == "wallet":
        found["versions"] = conn.execute(_SQL["versions"]).fetchall()[0][0]
    return found


@contextmanager
def _one_snapshot(conn: Connection) -> Iterator[None]:
    outside = conn.info.transaction_status is TransactionStatus.IDLE
    with conn.transaction():
        if outside:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _read(conn: Connection, tables: Iterable[str], entities: Iterable[Entity]) -> dict[Entity, State]:
    """The state of each of the load's entities in these tables."""
    rows: dict[Entity, list[tuple[Any, ...]]] = defaultdict(list)
    wanted = [entity for entity in entities if entity[0] in tables]
    for table in tables:
        ids = [key for name, key in wanted if name == table]
        for key, *values in conn.execute(_SQL[table.partition(".")[2]], {"ids": ids}):
            rows[table, key].append(tuple(values))
    return {entity: _state(entity, rows[entity]) for entity in wanted}


def _state(entity: Entity, rows: list[tuple[Any, ...]]) -> State:
    if entity[0] == expected.CARDS:
        rows = [(account, status, expected.canonical(details), *rest) for account, status, details, *rest in rows]
    return tuple(sorted(rows, key=repr))


def _judge(entity: Entity, told: Expected, actual: State) -> Iterator[Problem]:
    allowed = told.states[entity]
    if actual in allowed:
        return
    name = " ".join(entity)
    shown = f"there: {actual}, expected: {' or '.join(map(str, allowed))}"
    if not actual:
        yield Problem("lost", name, shown)
    elif len(actual) > max(map(len, allowed), default=0):
        never = allowed == {()} and told.rejected[entity] and not told.acknowledged[entity]
        yield Problem("rejected" if never else "doubled", name, shown)
    else:
        yield Problem("changed", name, shown)


def _marks(doubt: Doubt, actual: Mapping[Entity, State]) -> set[bool]:
    """Whether the transaction happened, as each entity tells it that can tell."""
    return {
        actual[entity] in after
        for entity, after in doubt.after.items()
        if (actual[entity] in after) != (actual[entity] in doubt.before[entity])
    }


def _happened(doubt: Doubt, actual: Mapping[Entity, State]) -> bool:
    return True in _marks(doubt, actual)


def _torn(doubt: Doubt, actual: Mapping[Entity, State]) -> Iterator[Problem]:
    if len(_marks(doubt, actual)) > 1:
        yield Problem("torn", doubt.entry.transaction.id, "of unknown outcome, and only a part of it is there")


def _others(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    for context, tables in before.items():
        for table, was in tables.items():
            if table != "versions" and (now := after[context][table]) != was:
                detail = f"rows that the load did not write: {was[0]} before, {now[0]} now"
                yield Problem("others", f"{context}.{table}", detail + ("" if was[0] != now[0] else ", changed"))


def _versions(
    account: ledger.Account, happened: list[Entry], found: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    done = [entry for entry in account.entries if entry.outcome is Outcome.ACKNOWLEDGED] + happened
    wanted = account.baseline["wallet"]["versions"] + sum(expected.account_changes(entry.transaction) for entry in done)
    if (there := found["wallet"]["versions"]) != wanted:
        yield Problem("version", "wallet.accounts", f"changed {there} times in all, expected {wanted}")


def _sums(conn: Connection) -> list[Problem]:
    balances = [
        Problem(
            "balance", f"wallet.accounts {account}", f"{balance}, entries {total}; available {available}, held {held}"
        )
        for account, balance, total, available, held in conn.execute(_SQL["balances"])
    ]
    return balances + [
        Problem("unbalanced", f"wallet.ledger_entries {transaction}", f"lines sum to {total}")
        for transaction, total in conn.execute(_SQL["unbalanced"])
    ]
