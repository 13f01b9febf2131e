"""Log sequence numbers: ``int`` inside, PostgreSQL's ``X/X`` text at the edges."""

from __future__ import annotations


def parse_lsn(text: str) -> int:
    """``"16/B374D848"`` as an integer.

    :raises ValueError: not an LSN.
    """
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """An integer as ``"16/B374D848"``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
