"""Runs a diff in a process of its own, so that a test can kill it: ``python -m tests.validations.killed URL URL``."""

from __future__ import annotations

import sys

from contexts.databases import Database, Databases
from contexts.model import Side
from tests.validations.support import Sides
from validations.diff.model import DiffOptions

OPTIONS = DiffOptions(workers=1, range_rows=100, ranges_per_segment=2, leaf_rows=20)

if __name__ == "__main__":
    shared, service = (Database(side, url) for side, url in zip(Side, sys.argv[1:], strict=True))
    print(Sides(Databases(shared, service), options=OPTIONS).diff().verdict)
