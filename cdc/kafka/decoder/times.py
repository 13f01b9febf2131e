"""Dates, times and intervals as PostgreSQL writes them under ``DateStyle=ISO`` and ``IntervalStyle=postgres``.

Python's own date types end at year 9999 and know no BC, so days are counted here with the civil calendar
arithmetic of Howard Hinnant's "chrono-compatible low-level date algorithms" (public domain).
"""

from __future__ import annotations

import re

US_PER_DAY = 86_400_000_000
#: The range of ``timestamp`` in microseconds since 1970, and of ``date`` in days (datatype/timestamp.h).
_FIRST_DAY = -2_440_588
_FIRST_US, _LAST_US = _FIRST_DAY * US_PER_DAY, 9_224_318_016_000_000_000
_LAST_DAY = 2_145_042_905

# Values that stand for infinity: outside the range of the type, or (+infinity of timestamp) an instant of the year
# 294247 that PostgreSQL could hold, which is taken as infinity.
_INFINITE_DAYS = {-2_147_472_692: b"infinity", -2_147_472_691: b"-infinity",
                  -622_191_234: b"infinity", -625_821_272: b"-infinity"}  # fmt: skip
_INFINITE_US = {9_223_372_036_825_200_000: b"infinity", -9_223_372_036_832_400_000: b"-infinity"}
_ZONED = re.compile(r"([+-]?[0-9]{4,})-([0-9]{2})-([0-9]{2})T([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]{1,9}))?Z")
#: The same in the years 0001 to 9999, with a fraction that is written as it comes.
_PLAINLY_ZONED = re.compile(r"((?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{0,5}[1-9])?)Z")
_INTERVAL = re.compile(r"P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?)(\d+)(?:\.(\d{1,6}))?S")
_MAX_YEAR = 294_276


def date(days: object) -> bytes:
    """A date from days since 1970-01-01.

    :raises ValueError: no such date.
    """
    if type(days) is not int:
        raise ValueError("no integer")
    if days in _INFINITE_DAYS:
        return _INFINITE_DAYS[days]
    if not _FIRST_DAY <= days <= _LAST_DAY:
        raise ValueError("outside the range of date")
    text, era = _civil(days)
    return f"{text}{era}".encode()


def time(unit_us: int, value: object) -> bytes:
    """A time of day from units of ``unit_us`` microseconds since midnight; 24:00:00 is one."""
    if type(value) is not int or not 0 <= value * unit_us <= US_PER_DAY:
        raise ValueError("no time of day")
    return _clock(value * unit_us).encode()


def timestamp(unit_us: int, value: object) -> bytes:
    """A timestamp without zone from units of ``unit_us`` microseconds since 1970."""
    if type(value) is not int:
        raise ValueError("no integer")
    us = value * unit_us
    # In milliseconds the infinities are cut: 9223372036825200 and -9223372036832400.
    if us in _INFINITE_US:
        return _INFINITE_US[us]
    # Past the greatest int64 the connector no longer counts right.
    if not _FIRST_US <= us < min(_LAST_US, 2**63 - US_PER_DAY):
        raise ValueError("outside the range that the connector sends right")
    days, rest = divmod(us, US_PER_DAY)
    text, era = _civil(days)
    return f"{text} {_clock(rest)}{era}".encode()


def timestamptz(text: object) -> bytes:
    """A timestamp with zone from ISO 8601 in UTC, with a signed astronomical year outside 0000-9999."""
    if isinstance(text, str) and (plain := _PLAINLY_ZONED.fullmatch(text)):
        return f"{plain[1]} {plain[2]}+00".encode()
    if text in ("infinity", "-infinity"):
        return str(text).encode()
    found = _ZONED.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise ValueError("no timestamp in UTC")
    year = int(found[1])
    if year > _MAX_YEAR or year < -4713:
        raise ValueError("outside the range of timestamp")
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    clock = found[4] if found[4].count(":") == 2 else f"{found[4]}:00"
    fraction = _fraction((found[5] or "").ljust(6, "0"))
    return f"{shown:04d}-{found[2]}-{found[3]} {clock}{fraction}+00{era}".encode()


def interval(text: object) -> bytes:
    """An interval from Debezium's ISO 8601 text, in which each field carries its own sign.

    Written as ``EncodeInterval`` does: the sign of a field is shown where the one before was negative.
    """
    found = _INTERVAL.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise ValueError("no interval")
    years, months, days, hours, minutes, seconds = (int(part) for part in (*found.groups()[:5], found[7]))
    us = int((found[8] or "").ljust(6, "0"))
    span = (hours * 60 + minutes) * 60_000_000 + (-1 if found[6] else 1) * (seconds * 1_000_000 + us)
    years, months = _same_sign(years * 12 + months)
    parts, negative = [], False
    for value, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if value:
            parts.append(f"{'+' if negative and value > 0 else ''}{value} {unit}{'' if value == 1 else 's'}")
            negative = value < 0
    if span or not parts:
        sign = "-" if span < 0 else "+" if negative else ""
        parts.append(sign + _clock(abs(span)))
    return " ".join(parts).encode()


def _same_sign(months: int) -> tuple[int, int]:
    years, rest = divmod(abs(months), 12)
    return (-years, -rest) if months < 0 else (years, rest)


def _clock(us: int) -> str:
    seconds, fraction = divmod(us, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{_fraction(f'{fraction:06d}')}"


def _fraction(digits: str) -> str:
    short = digits.rstrip("0")
    if len(short) > 6:
        raise ValueError("finer than microseconds")
    return f".{short}" if short else ""


def _civil(days: int) -> tuple[str, str]:
    """``YYYY-MM-DD`` and the era for days since 1970, in the proleptic Gregorian calendar."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return (f"{year:04d}-{month:02d}-{day:02d}", "") if year > 0 else (f"{1 - year:04d}-{month:02d}-{day:02d}", " BC")
