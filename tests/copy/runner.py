"""A worker of its own process, which the tests kill: copies until all is done, as often as it takes."""

from __future__ import annotations

import sys

from cdc import copy
from cdc.copy import split, target
from contexts.databases import Database, Databases
from contexts.model import Context, Side
from tests.copy.helpers import Control, cycle


def main() -> None:
    """``runner SHARED_URL SERVICE_URL CONTEXT_JSON`` (the test servers' URLs hold no password)."""
    split.MIN_PART_BYTES, target.MIN_BYTES_WITHOUT_KEY = 32 * 1024, 0
    pair = Databases(Database(Side.SHARED, sys.argv[1]), Database(Side.SERVICE, sys.argv[2]))
    moved = Context.model_validate_json(sys.argv[3])
    assert copy.recover(pair.shared, pair.service, moved, Control())
    while not cycle(pair, moved, deadline_s=5.0).finished:
        pass


if __name__ == "__main__":
    main()
