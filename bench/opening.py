"""``python -m bench.opening``: how long a browser takes to open the report of a context with many tables.

The times are the browser's own (Navigation Timing): from the begin of the navigation to the end of the load event, and
to the first paint with content.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from tests.browser import browser, programs
from tests.validations.large import large
from validations.report import page

#: Answers when the first paint with content is over: it may come after the load event.
_TIMES = """
const [navigation] = performance.getEntriesByType("navigation");
return new Promise(answer => new PerformanceObserver(seen => {
  const [paint] = seen.getEntriesByName("first-contentful-paint");
  if (paint) answer([navigation.loadEventEnd, paint.startTime, document.querySelectorAll("*").length]);
}).observe({type: "paint", buffered: true}));
"""


def main() -> None:
    """Render, open several times, print the medians."""
    parser = argparse.ArgumentParser("bench.opening", description="How long the report takes to open.")
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if programs() is None:
        parser.error("needs chromium and chromedriver (sh tests/packages.sh)")
    with tempfile.TemporaryDirectory() as folder, browser() as window:
        file = Path(folder) / "report.html"
        file.write_text(page.render(large(args.tables)), encoding="utf-8")
        rounds = []
        for _ in range(args.rounds):
            window.open(file)
            rounds.append(window.ask(_TIMES))
        loaded, painted = (statistics.median(one[i] for one in rounds) for i in (0, 1))
        print(f"{args.tables} tables, {file.stat().st_size / 1e6:.1f} MB, {rounds[0][2]:,} elements:"
              f" loaded in {loaded:.0f} ms, first paint after {painted:.0f} ms"
              f" (medians of {args.rounds}; loaded {min(one[0] for one in rounds):.0f}"
              f" to {max(one[0] for one in rounds):.0f} ms)")  # fmt: skip


if __name__ == "__main__":
    main()
