"""The forms of values on the wire: what a type of Connect is in JSON and in Avro, and what Debezium's names mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]
DATA, TIME = "io.debezium.data.", "io.debezium.time."
POINT = f"{DATA}geometry.Point"

_SINGLE_MAX = 3.4028235e38
_NO_NUMBERS: Schema = {"enum": ["NaN", "Infinity", "-Infinity"]}
#: Connect's type -> JSON Schema of its values.
JSON: Mapping[str, Schema] = {
    "boolean": {"type": "boolean"},
    "int16": {"type": "integer", "minimum": -(2**15), "maximum": 2**15 - 1},
    "int32": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"anyOf": [{"type": "number", "minimum": -_SINGLE_MAX, "maximum": _SINGLE_MAX}, _NO_NUMBERS]},
    "double": {"anyOf": [{"type": "number"}, _NO_NUMBERS]},
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
}
#: Connect's type -> Avro's, as Connect's Avro converters have it; what Avro has no type for goes beside it.
AVRO: Mapping[str, Any] = {
    "boolean": "boolean",
    "int16": {"type": "int", "connect.type": "int16"},
    "int32": "int",
    "int64": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
}
#: The fields of a point.
POINT_FIELDS = {"x": ("double", False), "y": ("double", False), "wkb": ("bytes", True), "srid": ("int32", True)}
_NUMERIC = "decimal digits; NAN, POSITIVE_INFINITY or NEGATIVE_INFINITY"
_RAW = "the server's own text, as bytes"
#: Debezium's name, or (where it gives none) PostgreSQL's type -> what the value means.
MEANING: Mapping[str, str] = {
    f"{DATA}Bits": "a bit string, the first byte holds the last eight bits, zero bytes at the end are left out",
    f"{DATA}Json": "JSON as text",
    f"{DATA}Xml": "XML as text",
    f"{DATA}Tsvector": "as the server writes it",
    f"{DATA}Ltree": "as the server writes it",
    f"{TIME}Date": "days since 1970-01-01; 2147483647 and -2147483648 and near them: infinity and -infinity",
    f"{TIME}MicroTime": "microseconds since midnight, 86400000000 is 24:00",
    f"{TIME}MicroTimestamp": "microseconds since 1970-01-01 00:00, without a zone; "
    "9223372036825200000 and -9223372036832400000: infinity and -infinity",
    f"{TIME}ZonedTimestamp": "ISO 8601 in UTC; infinity or -infinity",
    f"{TIME}Interval": "ISO 8601, such as P1Y2M3DT4H5M6.789S",
    "numeric": _NUMERIC,
    "money": "decimal digits, two behind the point",
}


def meaning(logical: str, base: str, kind: str) -> str:
    """What a value means, in one line; empty where its type says all."""
    return MEANING.get(logical) or MEANING.get(base) or (_RAW if kind == "bytes" and base != "bytea" else "")
