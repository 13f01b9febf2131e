"""What each subtransaction of a streamed transaction holds, and which of them were rolled back.

A loop with an exception handler makes one subtransaction per row, so there may be millions: each takes about
20 bytes here. No I/O.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left


class Subtransactions:
    """The (sub)transactions seen under the top transaction ``top``, itself included."""

    def __init__(self, top: int) -> None:
        self._top = top
        # Sorted: an id under its top is given out later, so nearly every new one goes to the end.
        self._offsets = array("I")
        self._sizes = array("Q")
        self._bytes = array("Q")
        self._aborted = bytearray()
        self._last = (-1, -1)
        self.any_aborted = False

    def add(self, xid: int, size: int, length: int) -> None:
        """Count a record of ``xid``: ``size`` changes in ``length`` bytes."""
        if self._last[0] != xid:
            self._last = (xid, self._index(xid))
        index = self._last[1]
        self._sizes[index] += size
        self._bytes[index] += length

    def abort(self, xid: int) -> tuple[int, int]:
        """Mark ``xid`` as rolled back; returns the changes and bytes counted for it."""
        index = self._index(xid)
        self._last = (-1, -1)
        self._aborted[index] = self.any_aborted = True
        found = self._sizes[index], self._bytes[index]
        self._sizes[index] = self._bytes[index] = 0
        return found

    def is_aborted(self, xid: int) -> bool:
        """Whether ``xid``, which was seen, was rolled back."""
        return bool(self._aborted[self._index(xid)])

    def _index(self, xid: int) -> int:
        offset = (xid - self._top) & 0xFFFFFFFF  # ids wrap around
        index = bisect_left(self._offsets, offset)
        if index == len(self._offsets) or self._offsets[index] != offset:
            for values in (self._sizes, self._bytes):
                values.insert(index, 0)
            self._offsets.insert(index, offset)
            self._aborted.insert(index, False)
            self._last = (-1, -1)
        return index
