"""Python's garbage collector in a process that streams."""

from __future__ import annotations

import gc
from typing import Final

#: New containers between two looks at the young ones. A batch holds 50,000 rows, each a change and its list.
_YOUNG: Final = 200_000


def collect_rarely() -> None:
    """Let the collector look for cycles far less often; call it once, when all modules are imported.

    Rows are in no cycles: counting references frees them. But every 700 new containers, by default, start a
    look at all the young ones, and a batch makes a hundred thousand: a quarter of the process's time went there.
    """
    gc.freeze()  # what was imported stays: it need not be looked at again
    gc.set_threshold(_YOUNG, 20, 100)
