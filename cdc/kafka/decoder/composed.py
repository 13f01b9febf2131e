"""Arrays, hstore, geometry and raw texts, as PostgreSQL writes them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable

from cdc.kafka.decoder import numbers

Decode = Callable[[object], bytes]
# array_out quotes what array_in would misread (array_isspace of utils/adt/arrayfuncs.c).
_NEEDS_QUOTES = re.compile(rb'[\s\v"\\{},]|^$|^null$', re.IGNORECASE)
# What Java prints for the inner arrays of an array of more than one dimension.
_JAVA_ARRAY = re.compile(rb"\[+(?:[BZCDFIJS]|L[\w.$]+;)@[0-9a-f]+")
_FLOAT = re.compile(rb"[-+]?(?:NaN|Infinity|[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")


def text(value: object) -> bytes:
    """A JSON string that is PostgreSQL's text already."""
    if not isinstance(value, str):
        raise ValueError("no string")
    return value.encode()


def utc_text(value: object) -> bytes:
    """A text that holds timestamps with zone, which a connector outside UTC writes in its own zone.

    :raises ValueError: a zone other than UTC.
    """
    written = text(value)
    if re.search(rb":[0-9.]+[+-](?!00[\"),\]])", written):
        raise ValueError("a zone other than UTC: run the connector's JVM with -Duser.timezone=UTC")
    return written


def array(element: Decode) -> Decode:
    """A one-dimensional array with lower bound 1 from a JSON array."""

    def decode(value: object) -> bytes:
        if not isinstance(value, list):
            raise ValueError("no array")
        return b"{" + b",".join(b"NULL" if one is None else _element(element(one)) for one in value) + b"}"

    return decode


def _element(written: bytes) -> bytes:
    if _JAVA_ARRAY.fullmatch(written):
        raise ValueError("an array of more than one dimension")
    if not _NEEDS_QUOTES.search(written):
        return written
    return b'"' + written.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def binary(mode: str) -> Decode:
    """The bytes of a bytea under ``binary.handling.mode``, as PostgreSQL's hex text."""
    plain = plain_bytes(mode)
    return lambda value: b"\\x" + binascii.hexlify(plain(value))


def plain_bytes(mode: str) -> Decode:
    """The bytes under ``binary.handling.mode``."""

    def decode(value: object) -> bytes:
        if not isinstance(value, str):
            raise ValueError("no string")
        if mode == "hex":
            return bytes.fromhex(value)
        return base64.b64decode(value, b"-_" if mode == "base64-url-safe" else None, validate=True)

    return decode


def hstore(value: object) -> bytes:
    """An hstore from its JSON text (or a JSON object), in hstore's own order: by length, then by bytes."""
    pairs = json.loads(value) if isinstance(value, str) else value
    if not isinstance(pairs, dict):
        raise ValueError("no object")
    encoded = sorted(((str(k).encode(), v) for k, v in pairs.items()), key=lambda pair: (len(pair[0]), pair[0]))
    return b", ".join(_quoted(k) + b"=>" + (b"NULL" if v is None else _quoted(text(v))) for k, v in encoded)


def _quoted(part: bytes) -> bytes:
    return b'"' + part.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def point(value: object) -> bytes:
    """A point from Debezium's struct."""
    if not isinstance(value, dict):
        raise ValueError("no struct")
    return b"(" + numbers.float8(value["x"]) + b"," + numbers.float8(value["y"]) + b")"


def geometry(raw: Decode) -> Decode:
    """Lines, boxes, paths, ...: the driver wrote their numbers in Java's way, PostgreSQL has its own."""

    def decode(value: object) -> bytes:
        return _FLOAT.sub(lambda found: _refloat(found[0]), raw(value))

    return decode


def _refloat(written: bytes) -> bytes:
    shown = written.decode()
    return numbers.float8(shown if shown.lstrip("+-") in ("NaN", "Infinity") else float(shown))
