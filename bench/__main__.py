"""``python -m bench [copy|apply|diff ...]``: see the README here."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import apply, copy, diff, dual, gate, read, report, verify
from bench.harness import Comparison, Rig, rig

_JOBS: dict[str, Callable[[Rig, argparse.Namespace], Comparison]] = {
    "copy": lambda bench, args: copy.contest(bench, args.rows or 5_000_000, args.rounds, args.jobs),
    "read": lambda bench, args: read.contest(bench, args.rows or 500_000, args.transactions or 200_000, args.rounds),
    "apply": lambda bench, args: apply.small(bench, args.rows or 500_000, args.transactions or 200_000, args.rounds),
    "apply-large": lambda bench, args: apply.large(bench, args.rows or 500_000, args.changes, args.rounds),
    "gate": lambda bench, args: gate.contest(bench, args.transactions or 40_000, args.rounds),
    "dual": lambda bench, args: dual.contest(bench, args.transactions or 3_000, args.rounds),
    "dual-durable": lambda bench, args: dual.durable(bench, args.transactions or 500, args.rounds),
    "dual-far": lambda bench, args: dual.far(bench, args.transactions or 500, args.rounds),
    "diff": lambda bench, args: diff.contest(bench, args.rows or 2_000_000, 0, args.rounds),
    "verify-cost": lambda bench, args: verify.contest(
        bench, args.rows or 500_000, args.transactions or 40_000, args.rounds
    ),
    "diff-10": lambda bench, args: diff.contest(bench, args.rows or 2_000_000, 10, args.rounds),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen comparisons and print each as it ends."""
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stop the servers and remove their folder
    done = []
    for job in args.job or list(_JOBS):
        with rig(args.source, args.target) as bench:
            done.append(_JOBS[job](bench, args))
        print(report.table(done[-1]), end="\n\n", flush=True)
    report.write_json(args.json, done)
    print(f"every round: {args.json}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench", description="Alternating rounds against other tools.")
    parser.add_argument("job", nargs="*", metavar="|".join(_JOBS), help="what to compare (all)")
    parser.add_argument("--rows", type=int, help="rows of the large table (500,000 to 5,000,000, by job)")
    parser.add_argument("--transactions", type=int, help="transactions (40,000 or 200,000, by job)")
    parser.add_argument("--changes", type=int, default=1_000_000, help="rows of the one large one (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every contestant (%(default)s)")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes (%(default)s)")
    parser.add_argument("--source", type=int, default=16, metavar="MAJOR", help="source server (%(default)s)")
    parser.add_argument("--target", type=int, default=16, metavar="MAJOR", help="target server (%(default)s)")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="all rounds (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
