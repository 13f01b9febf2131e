"""``python -m tests.conformance [--only SCENARIO] -- COMMAND``: see the README here."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contexts.databases import Databases
from tests.chaos.pairs import own_pair
from tests.conformance.program import Failed
from tests.conformance.scenarios import SCENARIOS, Stage
from tests.lockstep.conftest import OPTIONS, Lockstepped
from tests.migrator.inprocess import prepare, worker


@contextmanager
def streaming(folder: Path, pair: Databases) -> Iterator[Lockstepped]:
    """A bank whose worker runs in this process."""
    bank = Lockstepped.create(folder, pair, options=OPTIONS)
    assert isinstance(bank, Lockstepped)
    bank.expand_variables()
    prepare(bank)
    with worker(bank):
        bank.await_streaming()
        yield bank


def main() -> None:
    """Run the scenarios and say of each what came of it."""
    parser = argparse.ArgumentParser("python -m tests.conformance", description=__doc__)
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario (all)")
    parser.add_argument("command", nargs="+", help="the program under test, after --")
    options = parser.parse_args()
    failed = 0
    with (
        own_pair("conformance") as pair,
        tempfile.TemporaryDirectory() as folder,
        streaming(Path(folder), pair) as bank,
    ):
        for name, scenario in SCENARIOS.items():
            if options.only in (None, name):
                failed += _failed(name, lambda scenario=scenario: scenario(Stage(bank, options.command)))
    raise SystemExit(1 if failed else 0)


def _failed(name: str, run: object) -> bool:
    assert callable(run)
    try:
        run()
    except (Failed, AssertionError) as error:
        print(f"FAIL  {name}: {error}", flush=True)
        return True
    print(f"pass  {name}", flush=True)
    return False


if __name__ == "__main__":
    main()
