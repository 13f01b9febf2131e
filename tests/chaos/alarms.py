"""``python -m tests.chaos.alarms --rounds 1000``: verifications over random live load, of which none may be red.

Afterwards one value is changed on the closed side, and the last verification must name exactly that key: a check that
sees nothing would raise no false alarm either.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from contexts.databases import Databases
from migrator.verify import Verification
from tests.chaos.pairs import own_pair
from tests.chaos.writers import COLD, NAMES, TABLES, Writers
from tests.migrator import inprocess
from tests.migrator.moving import Bank
from tests.waiting import wait_until
from validations.state.store import Verifications


@dataclass
class Seen:
    """What the rounds saw."""

    rounds: int = 0
    rows: int = 0
    transactions: int = 0
    red: list[str] = field(default_factory=list)
    positions: set[int] = field(default_factory=set)
    slowest_s: float = 0.0
    #: The keys that the last round found, after one value was changed.
    control: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def note(self, found: Verification, seconds: float) -> None:
        """Add a round."""
        self.rounds += 1
        self.rows += found.diff.rows
        self.positions.add(found.diff.lsn_last or 0)
        self.slowest_s = max(self.slowest_s, seconds)
        if not found.passed:
            spoilt = found.suites.problem or (found.suites.checked and found.suites.checked.spoilt_by)
            self.red.append(f"round {self.rounds}: {found.diff}, {found.parity}, {found.invariants}, {spoilt}")


CONTROL = [("chaos.account", (str(COLD),))]


def alarms(
    folder: Path, pair: Databases, rounds: int, seed: int = 0, tell: Callable[[Seen], None] = lambda _: None
) -> Seen:
    """Verify ``rounds`` times while writers write and a worker streams, then once over a planted difference."""
    with pair.shared.connect("chaos") as conn:
        conn.execute(sql.SQL(TABLES))
    bank, seen = inprocess.project(folder, pair, "chaos", *NAMES), Seen()
    inprocess.prepare(bank)
    with Writers(pair.shared, seed=seed) as writers, inprocess.worker(bank):
        wait_until(lambda: bank.state() == "streaming", bank.state, patience_s=180)
        bank.await_streaming()
        for _ in range(rounds):
            started = time.monotonic()
            seen.note(inprocess.verify(bank), time.monotonic() - started)
            seen.transactions = writers.done["transactions"]
            tell(seen)
        seen.control = _control(bank)
    return seen


def _control(bank: Bank) -> list[tuple[str, tuple[str, ...]]]:
    with bank.both.service.connect("chaos", session_replication_role="replica") as rogue:
        rogue.execute("UPDATE chaos.account SET balance = balance + 0.01 WHERE id = %s", (COLD,))
    found = inprocess.verify(bank)
    differences = Verifications(bank.both.service, bank.name).differences(found.diff.verification)
    return [(str(table), difference.key) for table, difference in differences]


def main() -> None:
    """Run it on two servers of its own."""
    parser = argparse.ArgumentParser("alarms", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)

    def tell(seen: Seen) -> None:
        if seen.rounds % 20 == 0:
            print(f"{seen.rounds} rounds, {seen.transactions} transactions, {len(seen.red)} red", flush=True)

    with own_pair("alarms") as pair, tempfile.TemporaryDirectory() as folder:
        seen = alarms(Path(folder), pair, args.rounds, args.seed, tell)
    print(
        f"seed {args.seed}: {seen.rounds} verifications at {len(seen.positions)} positions over {seen.transactions}"
        f" transactions, {seen.rows} rows compared, slowest {seen.slowest_s:.2f} s: {len(seen.red)} false alarms;"
        f" the planted difference {'was' if seen.control == CONTROL else 'WAS NOT'} found: {seen.control}"
    )
    print("\n".join(seen.red))
    raise SystemExit(bool(seen.red) or seen.control != CONTROL)


if __name__ == "__main__":
    main()
