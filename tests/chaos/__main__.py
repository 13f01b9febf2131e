"""``python -m tests.chaos [SCENARIO] ...``: the long runs whose short versions are in the suite."""

from __future__ import annotations

import importlib
import sys

SCENARIOS = ("alarms", "bouncer", "bouncer_faults", "lockstep", "kafka_histories")


def main() -> None:
    """Run one scenario; the first where none is named."""
    name = sys.argv.pop(1) if sys.argv[1:2] and not sys.argv[1].startswith("-") else SCENARIOS[0]
    if name not in SCENARIOS:
        raise SystemExit(f"no scenario {name!r} (there: {', '.join(SCENARIOS)})")
    importlib.import_module(f"tests.chaos.{name}").main()


if __name__ == "__main__":
    main()
