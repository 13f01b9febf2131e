"""What all decoders of the replication protocol share: numbers, strings and the error for what does not fit.

No I/O. Integers are big-endian throughout the protocol.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Final

from contexts.errors import StreamStopped
from contexts.model import TableName

#: From 1970-01-01 to 2000-01-01 in microseconds: PostgreSQL counts its times from the latter.
EPOCH_US: Final = 946_684_800_000_000

_NAMES: Final = MappingProxyType(
    {
        "B": "Begin", "C": "Commit", "O": "Origin", "R": "Relation", "Y": "Type", "I": "Insert", "U": "Update",
        "D": "Delete", "T": "Truncate", "M": "Message", "S": "Stream Start", "E": "Stream Stop",
        "c": "Stream Commit", "A": "Stream Abort", "b": "Begin Prepare", "P": "Prepare", "K": "Commit Prepared",
        "r": "Rollback Prepared", "p": "Stream Prepare",
    }
)  # fmt: skip
unpack_u32 = struct.Struct(">I").unpack_from


class MalformedMessage(StreamStopped):
    """A message of the stream does not have the form that the protocol gives it."""


class Misfit(ValueError):
    """What is wrong inside a message; :func:`malformed` names the message."""


#: What a decoder meets in bytes that do not fit.
MISFITS: Final = (Misfit, IndexError, struct.error, UnicodeDecodeError)


def malformed(payload: bytes, error: Exception) -> MalformedMessage:
    """The error for a message that cannot be decoded."""
    # The payload may hold row values: only its kind and length are named.
    reason = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return MalformedMessage(
        f"{message_name(payload)} of {len(payload)} bytes cannot be decoded: {reason}",
        unchanged="nothing of its transaction was applied, and the slot was not acknowledged",
        next_step="check that the database URL leads straight to PostgreSQL, then start the worker again",
    )


def message_name(payload: bytes) -> str:
    """``Insert message`` and so on, for error messages."""
    tag = chr(payload[0]) if payload else ""
    return f"{_NAMES[tag]} message" if tag in _NAMES else f"message with the unknown tag {tag!r}"


def must_end(data: bytes, end: int) -> None:
    """Refuse a message whose content ends elsewhere than the message itself."""
    if end != len(data):
        raise Misfit(f"its content ends at byte {end}")


def string(data: bytes, at: int) -> tuple[str, int]:
    """The zero-terminated string at ``at`` and where the next field begins."""
    end = data.find(0, at)
    if end < 0:
        raise Misfit("a string without end")
    return data[at:end].decode(), end + 1


def last_string(data: bytes, at: int) -> str:
    """The string with which a message ends."""
    text, end = string(data, at)
    must_end(data, end)
    return text


def qualified_name(data: bytes, at: int) -> tuple[TableName, int]:
    """A qualified name and where the next field begins; the protocol leaves out the schema ``pg_catalog``."""
    schema, at = string(data, at)
    plain, at = string(data, at)
    return TableName(schema or "pg_catalog", plain), at
