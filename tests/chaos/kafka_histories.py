"""``python -m tests.chaos kafka_histories --rounds 300``: so many random histories through real Debezium.

Shared database, the closed side through Kafka, and the closed side through the embedded source hold the same rows after
each, over every type that ``check`` accepts; every event is of the context's contract.
"""

from __future__ import annotations

import argparse
import os

import pytest


def main() -> None:
    """Play them with pytest, which has the stack."""
    parser = argparse.ArgumentParser(prog="tests.chaos kafka_histories")
    parser.add_argument("--rounds", type=int, default=100, help="histories of each set of tables (default: 100)")
    os.environ["CARVEOUT_KAFKA_HISTORIES"] = str(parser.parse_args().rounds)
    raise SystemExit(pytest.main(["-q", "-n", "0", "tests/kafka/test_random_history.py"]))


if __name__ == "__main__":
    main()
