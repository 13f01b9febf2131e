"""Numbers as PostgreSQL writes them, from the forms in which JSON carries them.

Floats follow ``float8out``/``float4out`` with ``extra_float_digits > 0``: the shortest digits that lie strictly
inside the rounding interval (PostgreSQL's ryu does not accept its ends, Python's ``repr`` does), in fixed notation
for exponents from -4 to 14 (float8) or 5 (float4).
"""

from __future__ import annotations

import base64
import math
import re
import struct
from fractions import Fraction

_SPECIAL = {"NaN": b"NaN", "Infinity": b"Infinity", "-Infinity": b"-Infinity"}
_NUMERIC_SPECIAL = {"NAN": b"NaN", "POSITIVE_INFINITY": b"Infinity", "NEGATIVE_INFINITY": b"-Infinity"}
_NUMERIC = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_MONEY = re.compile(r"-?[0-9]+\.[0-9]{2}")
# Below 2^53 no decimal of 17 digits can be the middle between two doubles.
_EXACT_MIDDLES_FROM = 2.0**53
_FLOAT4_MAX_DIGITS = 9


def integer(value: object) -> bytes:
    """A JSON integer.

    :raises ValueError: no integer (a boolean is none).
    """
    if type(value) is not int:
        raise ValueError("no integer")
    return b"%d" % value


def boolean(value: object) -> bytes:
    """A JSON boolean as ``t`` or ``f``."""
    if value is True:
        return b"t"
    if value is False:
        return b"f"
    raise ValueError("no boolean")


def float8(value: object) -> bytes:
    """A double: a JSON number, or the string ``NaN``, ``Infinity`` or ``-Infinity``."""
    number = _number(value)
    return _SPECIAL[number] if isinstance(number, str) else _float8(number)


def float4(value: object) -> bytes:
    """A single-precision float, in the same forms."""
    number = _number(value)
    return _SPECIAL[number] if isinstance(number, str) else _float4(number)


def numeric(text: object) -> bytes:
    """A numeric in string mode.

    :raises ValueError: not in that form.
    """
    if not isinstance(text, str):
        raise ValueError("no string")
    if _NUMERIC.fullmatch(text):
        return text.encode()
    if text in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[text]
    raise ValueError("no numeric")


def numeric_of_negative_scale(text: object) -> bytes:
    """A numeric whose type has a scale of -k: Debezium reads it as 2048 - k, and adds so many zeros."""
    whole, _, fraction = numeric(text).partition(b".")
    if fraction.strip(b"0"):
        raise ValueError("a fraction in a numeric of negative scale")
    return b"0" if whole == b"-0" else whole


def money(text: object) -> bytes:
    """Money in string mode as ``cash_out`` writes it under ``lc_monetary=C``: ``-$1,234.56``."""
    if not isinstance(text, str) or not _MONEY.fullmatch(text):
        raise ValueError("no amount with two decimals")
    whole, cents = text.removeprefix("-").split(".")
    sign = "-" if text.startswith("-") else ""
    return f"{sign}${int(whole):,}.{cents}".encode()


def bits(length: int, encoded: object) -> bytes:
    """``bit(length)`` from Debezium's little-endian bytes without leading zeros."""
    if not isinstance(encoded, str):
        raise ValueError("no string")
    number = int.from_bytes(base64.b64decode(encoded, validate=True), "little")
    text = f"{number:b}" if number else ""
    if len(text) > length:
        raise ValueError("more bits than the type has")
    return text.zfill(length).encode()


def bit(value: object) -> bytes:
    """``bit(1)``, which Debezium sends as a boolean."""
    return b"1" if boolean(value) == b"t" else b"0"


def _number(value: object) -> float | str:
    if isinstance(value, str) and value in _SPECIAL:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")
    return float(value)


def _float8(value: float) -> bytes:
    digits = repr(value)
    if abs(value) >= _EXACT_MIDDLES_FROM and _is_middle(digits, value):
        digits = next(d for p in range(1, 18) if float(d := f"{value:.{p}e}") == value and not _is_middle(d, value))
    return _written(digits, 15)


def _is_middle(digits: str, value: float) -> bool:
    neighbours = [n for n in (math.nextafter(value, -math.inf), math.nextafter(value, math.inf)) if math.isfinite(n)]
    return any(Fraction(digits) * 2 == Fraction(value) + Fraction(neighbour) for neighbour in neighbours)


def _float4(value: float) -> bytes:
    packed = struct.pack("<f", value)  # OverflowError where it is no single-precision value
    here = struct.unpack("<f", packed)[0]
    bits32 = int.from_bytes(packed, "little")
    if here == 0:
        return b"-0" if math.copysign(1, here) < 0 else b"0"
    low, high = (_middle32(bits32, step) for step in (-1, 1))
    for precision in range(_FLOAT4_MAX_DIGITS):
        for digits in _candidates(here, precision):
            if low < abs(Fraction(digits)) < high:
                return _written(digits, 6)
    raise ValueError("no single-precision number")


def _candidates(value: float, precision: int) -> tuple[str, str]:
    """The nearest decimal, and the next one up: at a power of two the interval is wider above."""
    nearest = f"{value:.{precision}e}"
    mantissa, _, exponent = nearest.partition("e")
    digits = int(mantissa.replace(".", ""))
    return nearest, f"{digits + (-1 if digits < 0 else 1)}e{int(exponent) - precision}"


def _middle32(bits32: int, step: int) -> Fraction:
    """The middle between the magnitude of a float4 and that of its neighbour."""
    magnitude = bits32 & 0x7FFFFFFF
    here = Fraction(struct.unpack("<f", struct.pack("<I", magnitude))[0])
    if magnitude + step == 0x7F800000:  # beyond the greatest float the step stays as wide
        return here + (here - Fraction(struct.unpack("<f", struct.pack("<I", magnitude - 1))[0])) / 2
    return (here + Fraction(struct.unpack("<f", struct.pack("<I", magnitude + step))[0])) / 2


def _written(digits: str, fixed_below: int) -> bytes:
    """Digits in any float notation, in PostgreSQL's: fixed for exponents -4 to ``fixed_below - 1``."""
    sign = "-" if digits.startswith("-") else ""
    mantissa, _, exponent = digits.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    plain = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(plain)
    plain = plain.rstrip("0")
    if not plain:
        return f"{sign}0".encode()
    if not -4 <= point - 1 < fixed_below:
        tail = f".{plain[1:]}" if len(plain) > 1 else ""
        return f"{sign}{plain[0]}{tail}e{'-' if point < 1 else '+'}{abs(point - 1):02d}".encode()
    if point <= 0:
        return f"{sign}0.{'0' * -point}{plain}".encode()
    padded = plain.ljust(point, "0")
    return f"{sign}{padded[:point]}{'.' if len(padded) > point else ''}{padded[point:]}".encode()
