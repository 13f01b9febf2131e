"""How each column's JSON becomes PostgreSQL text under one connector's settings, or why it cannot.

What stands here was seen in events of Debezium 3.6; a type that was not seen is refused, never guessed.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cdc.kafka.decoder import composed, numbers, times
from cdc.kafka.decoder.composed import Decode
from cdc.kafka.settings import Encoding
from contexts.catalog import FIRST_USER_OID, Column


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the values of a column (or of a table's rows) would not arrive whole, and what helps."""

    reason: str
    #: A connector setting, a replica identity, or another way.
    fix: str


class Unset(enum.Enum):
    """No marker: an unchanged TOAST value arrives as NULL."""

    MARKER = "none"


@dataclass(frozen=True, slots=True)
class Codec:
    """The decoding of one column's values that are not NULL."""

    decode: Decode
    #: Connect's type and Debezium's logical name (empty where there is none).
    schema: tuple[str, str]
    #: The JSON value that stands for an unchanged TOAST value.
    marker: object = Unset.MARKER
    #: Whether a value can be stored outside of the row at all.
    toastable: bool = True
    #: The name that ``column.propagate.source.type`` adds; empty where it is not compared.
    type_name: str = ""
    #: Connect's type and logical name of an array's elements.
    items: tuple[str, str] = ("", "")


EMBEDDED = "use the embedded source for this context"
_UNPROVEN = "values of this type were never proven to arrive whole"
_D = "io.debezium."

# name, Connect type, logical name, decoder: types that arrive in one form under every setting.
_PLAIN: dict[int, tuple[str, str, str, Decode]] = {
    16: ("BOOL", "boolean", "", numbers.boolean),
    20: ("INT8", "int64", "", numbers.integer),
    21: ("INT2", "int16", "", numbers.integer),
    23: ("INT4", "int32", "", numbers.integer),
    26: ("OID", "int64", "", numbers.integer),
    700: ("FLOAT4", "float", "", numbers.float4),
    701: ("FLOAT8", "double", "", numbers.float8),
    600: ("POINT", "struct", f"{_D}data.geometry.Point", composed.point),
    1184: ("TIMESTAMPTZ", "string", f"{_D}time.ZonedTimestamp", times.timestamptz),
}
_TEXTS: dict[int, tuple[str, str]] = {
    18: ("CHAR", ""),
    25: ("TEXT", ""),
    114: ("JSON", f"{_D}data.Json"),
    142: ("XML", f"{_D}data.Xml"),
    650: ("CIDR", ""),
    774: ("MACADDR8", ""),
    829: ("MACADDR", ""),
    869: ("INET", ""),
    1042: ("BPCHAR", ""),
    1043: ("VARCHAR", ""),
    2950: ("UUID", f"{_D}data.Uuid"),
    3614: ("TSVECTOR", f"{_D}data.Tsvector"),
    3802: ("JSONB", f"{_D}data.Json"),
    3904: ("INT4RANGE", ""),
    3906: ("NUMRANGE", ""),
    3908: ("TSRANGE", ""),
    3910: ("TSTZRANGE", ""),
    3912: ("DATERANGE", ""),
    3926: ("INT8RANGE", ""),
}
_EXTENSION_TEXTS = {"citext": ("CITEXT", ""), "ltree": ("LTREE", f"{_D}data.Ltree")}
# Types without a converter: with include.unknown.datatypes the server's text arrives as bytes.
_RAW = {27: "TID", 28: "XID", 3220: "PG_LSN", 3615: "TSQUERY", 4072: "JSONPATH", 4451: "INT4MULTIRANGE",
        4532: "NUMMULTIRANGE", 4533: "TSMULTIRANGE", 4534: "TSTZMULTIRANGE", 4535: "DATEMULTIRANGE",
        4536: "INT8MULTIRANGE", 5069: "XID8"}  # fmt: skip
_GEOMETRY = {601: "LSEG", 602: "PATH", 603: "BOX", 604: "POLYGON", 628: "LINE", 718: "CIRCLE"}
_FIXED_WIDTH = frozenset({16, 18, 19, 20, 21, 23, 26, 27, 28, 600, 601, 603, 628, 700, 701, 718, 774, 790, 829, 1082,
                          1083, 1114, 1184, 1186, 2950, 3220, 5069})  # fmt: skip
#: cidr, macaddr8, inet: always shorter than the pointer to a value stored apart.
_NEVER_STORED_APART = frozenset({650, 774, 869})
_ARRAYS: dict[int, tuple[str, Decode]] = {
    16: ("_BOOL", numbers.boolean), 20: ("_INT8", numbers.integer), 21: ("_INT2", numbers.integer),
    23: ("_INT4", numbers.integer), 25: ("_TEXT", composed.text), 114: ("_JSON", composed.text),
    700: ("_FLOAT4", numbers.float4), 701: ("_FLOAT8", numbers.float8), 1042: ("_BPCHAR", composed.text),
    1043: ("_VARCHAR", composed.text), 2950: ("_UUID", composed.text), 3802: ("_JSONB", composed.text),
}  # fmt: skip
_CUT_ARRAYS = {
    1082: "dates before 1582-10-15 are shifted and BC dates lose their era",
    1083: "times are cut to milliseconds",
    1114: "timestamps before 1582-10-15 are shifted",
    1184: "timestamps before 1582-10-15 are shifted and BC dates lose their era",
    1700: "an array that holds NaN or infinity arrives as NULL",
}
#: reg* types: the server writes their names by the search_path of whoever asks.
_BY_SEARCH_PATH = frozenset({24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191})


def codec(column: Column, encoding: Encoding) -> Codec | Refusal:
    """How the values of ``column`` are decoded, or why they cannot be."""
    oid = column.base_type_oid
    if oid in _PLAIN:
        name, connect, logical, decode = _PLAIN[oid]
        return Codec(decode, (connect, logical), toastable=False, type_name=_propagated(column, name))
    if oid in _TEXTS:
        name, logical = _TEXTS[oid]
        decode = composed.utc_text if oid == 3910 else composed.text
        fixed = oid in _FIXED_WIDTH or oid in _NEVER_STORED_APART
        return Codec(decode, ("string", logical), encoding.placeholder, not fixed, _propagated(column, name))
    if oid in _BY_SETTING:
        return _BY_SETTING[oid](column, encoding)
    if oid in _RAW or oid in _GEOMETRY or oid == 19:
        return _unknown(column, encoding)
    if column.element_oid:
        return _array(column, encoding)
    return _user_type(column, encoding)


def _decimal(column: Column, encoding: Encoding) -> Codec | Refusal:
    if encoding.decimal != "string":
        reason = "NaN, infinity and trailing zeros are lost, or the value is rounded"
        return Refusal(f"decimal.handling.mode={encoding.decimal}: {reason}", "decimal.handling.mode=string")
    if column.base_type_oid == 790:
        return Codec(numbers.money, ("string", ""), toastable=False, type_name=_propagated(column, "MONEY"))
    is_negative = column.base_typmod >= 0 and numeric_scale(column.base_typmod) < 0
    decode: Decode = numbers.numeric_of_negative_scale if is_negative else numbers.numeric
    return Codec(decode, ("string", ""), encoding.placeholder, type_name=_propagated(column, "NUMERIC"))


def numeric_scale(typmod: int) -> int:
    """The scale in a numeric's modifier: eleven bits with sign (``numeric_typmod_scale`` of utils/adt/numeric.c)."""
    return (((typmod - 4) & 0x7FF) ^ 1024) - 1024


def _bytea(column: Column, encoding: Encoding) -> Codec | Refusal:
    name, mode = _propagated(column, "BYTEA"), encoding.binary
    if mode == "bytes":
        return Codec(composed.binary(mode), ("bytes", ""), _b64(encoding.placeholder), type_name=name)
    if mode in ("base64", "base64-url-safe", "hex"):
        return Codec(composed.binary(mode), ("string", ""), type_name=name)
    return Refusal(f"binary.handling.mode={mode} is not known", "binary.handling.mode=bytes")


def _time(column: Column, encoding: Encoding) -> Codec | Refusal:
    logical = "Time" if column.base_type_oid == 1083 else "Timestamp"
    name = _propagated(column, logical.upper())
    mode, coarse = encoding.time, 0 <= column.typmod <= 3
    if mode not in ("microseconds", "adaptive", "adaptive_time_microseconds"):
        reason = f"time.precision.mode={mode} cuts, shifts or loses some of the values"
        return Refusal(reason, "time.precision.mode=microseconds")
    if mode != "microseconds" and column.typmod < 0 and not column.is_builtin:
        return Refusal(f"time.precision.mode={mode}: the precision under a domain is not known here",
                       "time.precision.mode=microseconds")  # fmt: skip
    in_ms = coarse and mode != "microseconds" and (logical == "Timestamp" or mode == "adaptive")
    decode = partial(times.time if logical == "Time" else times.timestamp, 1000 if in_ms else 1)
    connect = "int32" if in_ms and logical == "Time" else "int64"
    return Codec(decode, (connect, f"{_D}time.{'' if in_ms else 'Micro'}{logical}"), toastable=False, type_name=name)


def _date(column: Column, encoding: Encoding) -> Codec | Refusal:
    if encoding.time not in ("microseconds", "adaptive", "adaptive_time_microseconds", "nanoseconds"):
        reason = f"dates under time.precision.mode={encoding.time} are not read here"
        return Refusal(reason, "time.precision.mode=microseconds")
    return Codec(times.date, ("int32", f"{_D}time.Date"), toastable=False, type_name=_propagated(column, "DATE"))


def _interval(column: Column, encoding: Encoding) -> Codec | Refusal:
    if encoding.interval != "string":
        reason = f"interval.handling.mode={encoding.interval} counts years and months as seconds"
        return Refusal(reason, "interval.handling.mode=string")
    name = _propagated(column, "INTERVAL")
    return Codec(times.interval, ("string", f"{_D}time.Interval"), toastable=False, type_name=name)


def _bit(column: Column, _: Encoding) -> Codec | Refusal:
    length, name = column.typmod, _propagated(column, "BIT")
    if length < 0:
        return Refusal("the length of a bit string under a domain is not known here", EMBEDDED)
    if length == 1:
        return Codec(numbers.bit, ("boolean", ""), toastable=False, type_name=name)
    # The tuple toaster leaves values alone that are shorter than its pointer would be.
    return Codec(partial(numbers.bits, length), ("bytes", f"{_D}data.Bits"), toastable=length > 64, type_name=name)


def _timetz(_: Column, __: Encoding) -> Refusal:
    return Refusal("every mode but structured (Debezium 3.7) moves the value to UTC and loses its zone", EMBEDDED)


def _varbit(_: Column, __: Encoding) -> Refusal:
    return Refusal("its length and its leading zeros are not sent", EMBEDDED)


_BY_SETTING: dict[int, Callable[[Column, Encoding], Codec | Refusal]] = {
    17: _bytea, 790: _decimal, 1082: _date, 1083: _time, 1114: _time, 1186: _interval, 1266: _timetz,
    1560: _bit, 1562: _varbit, 1700: _decimal,
}  # fmt: skip


def _unknown(column: Column, encoding: Encoding) -> Codec | Refusal:
    """A type that needs ``include.unknown.datatypes``."""
    oid, mode = column.base_type_oid, encoding.binary
    if not encoding.unknown_types:
        reason = "without a converter for its type the column is left out, or NULL"
        return Refusal(reason, "include.unknown.datatypes=true")
    if oid == 19:
        return Codec(composed.text, ("string", ""), toastable=False, type_name=_propagated(column, "NAME"))
    raw = composed.plain_bytes(mode)
    decode = composed.geometry(raw) if oid in _GEOMETRY else raw
    kind = "bytes" if mode == "bytes" else "string"
    marker = _b64(encoding.placeholder) if mode == "bytes" else Unset.MARKER
    name = _propagated(column, {**_RAW, **_GEOMETRY}.get(oid, ""))
    return Codec(decode, (kind, ""), marker, oid not in _FIXED_WIDTH, name)


def _array(column: Column, encoding: Encoding) -> Codec | Refusal:
    element = column.element_oid
    if element in _CUT_ARRAYS:
        return Refusal(_CUT_ARRAYS[element], EMBEDDED)
    if element == 17 and encoding.binary == "bytes":
        decode, name = composed.binary(encoding.binary), "_BYTEA"
    elif element in _ARRAYS:
        name, decode = _ARRAYS[element]
    elif element >= FIRST_USER_OID:
        return Refusal("an array of a user's type that holds a NULL arrives as NULL", EMBEDDED)
    else:
        return Refusal(f"arrays of this type are left out or altered ({_UNPROVEN})", EMBEDDED)
    marker = _array_marker(element, encoding.placeholder)
    items = _PLAIN[element][1:3] if element in _PLAIN else ("bytes", "") if element == 17 else _text_items(element)
    return Codec(composed.array(decode), ("array", ""), marker, type_name=_propagated(column, name), items=items)


def _text_items(element: int) -> tuple[str, str]:
    return "string", _TEXTS[element][1]


def _array_marker(element: int, placeholder: str) -> object:
    """What Debezium's UnchangedToastedPlaceholder puts for an array, by its element type."""
    if element in (25, 114, 1042, 1043, 3802):
        return [placeholder]
    if element in (20, 23):
        return list(placeholder.encode())
    if element == 17:
        return [_b64(placeholder)]
    if element == 2950:
        return [str(_name_uuid(placeholder.encode()))]
    return Unset.MARKER


def _name_uuid(name: bytes) -> uuid.UUID:
    """``UUID.nameUUIDFromBytes`` of Java: version 3 without a namespace."""
    return uuid.UUID(bytes=hashlib.md5(name, usedforsecurity=False).digest(), version=3)


def _user_type(column: Column, encoding: Encoding) -> Codec | Refusal:
    name = column.base_type_sql.rsplit(".", 1)[-1].strip('"')
    if column.base_type_oid in _BY_SEARCH_PATH:
        return Refusal("its text depends on the search_path of the connector's session", EMBEDDED)
    if column.base_type_oid < FIRST_USER_OID:
        return Refusal(_UNPROVEN, EMBEDDED)
    if column.base_kind == "e":
        return Codec(composed.text, ("string", f"{_D}data.Enum"), toastable=False)
    if column.base_kind == "c":
        return _unknown(column, encoding)
    if name in _EXTENSION_TEXTS:
        given, logical = _EXTENSION_TEXTS[name]
        return Codec(composed.text, ("string", logical), encoding.placeholder, type_name=_propagated(column, given))
    if name == "hstore" and encoding.hstore in ("json", "map"):
        return _hstore(column, encoding)
    return Refusal(_UNPROVEN, EMBEDDED)


def _hstore(column: Column, encoding: Encoding) -> Codec:
    type_name = _propagated(column, "HSTORE")
    if encoding.hstore == "map":
        return Codec(composed.hstore, ("map", ""), type_name=type_name)
    marker = json.dumps({encoding.placeholder: encoding.placeholder}, separators=(",", ":"), ensure_ascii=False)
    return Codec(composed.hstore, ("string", f"{_D}data.Json"), marker, type_name=type_name)


def _propagated(column: Column, name: str) -> str:
    """The propagated type name where it can be compared: a domain's or extension's carries its schema."""
    return name if column.is_builtin else ""


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def schema_of(field: dict[str, Any]) -> tuple[str, str]:
    """Connect's type and logical name of a field of a JSON schema."""
    return field["type"], field.get("name") or ""
