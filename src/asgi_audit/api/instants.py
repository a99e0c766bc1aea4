"""Instants as clients send them, ISO 8601 with an offset, to the nanosecond, and as they are sent, to the
millisecond."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache

from ..record.line import TIME_END

__all__ = ["day_ns", "instant_ns", "ms_of", "text_of_ms"]

_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NS = 1_000_000_000
_MS_MAX = 253_402_300_799_999  # the calendar of RFC 3339 ends in 9999
_DAY_NS = 86_400 * _NS


def instant_ns(text: str) -> int | None:
    """Nanoseconds since the epoch of an ISO 8601 date-time with offset; None for any other text. Raises ValueError for
    a day, a time or an offset that does not exist."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = match.groups()
    offset = 60 * int(off_hours or 0) + int(off_minutes or 0)
    days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    # A leap second, 59:60, is taken as the first second of the next minute: epoch time does not count it.
    if (
        int(hour) > 23
        or int(minute) > 59
        or int(second or 0) > (60 if minute == "59" else 59)
        or offset > 23 * 60 + 59
        or int(off_minutes or 0) > 59
    ):
        raise ValueError(text)
    minutes = days * 1440 + int(hour) * 60 + int(minute) - (-offset if sign == "-" else offset)
    return (minutes * 60 + int(second or 0)) * _NS + int((fraction or "0").ljust(9, "0"))


def day_ns(text: str) -> tuple[int, int] | None:
    """The first and the last nanosecond of a plain date (UTC); None for any other text. Raises ValueError for a day
    that does not exist."""
    if _DAY.fullmatch(text) is None:
        return None
    begins = (date.fromisoformat(text).toordinal() - _EPOCH_DAY) * _DAY_NS
    return begins, begins + _DAY_NS - 1


def ms_of(ns: int) -> int:
    """Rounds up to whole milliseconds. Records have whole milliseconds, so comparisons (>= and <) with the rounded and
    with the exact instant give the same result. The result is clamped to [0, TIME_END], the range of records: the
    result of a query stays the same, and row ids cannot overflow."""
    return min(max(-(-ns // 1_000_000), 0), TIME_END)


def text_of_ms(ms: int, zone: str = "Z") -> str:
    """`2024-01-01T10:35:15.120Z`: the instant in UTC, at most the last one of the year 9999. `zone`: how UTC is
    spelled."""
    minute, ms = divmod(min(ms, _MS_MAX), 60_000)
    return f"{_minute(minute)}{ms // 1000:02d}.{ms % 1000:03d}{zone}"


@lru_cache(maxsize=1_024)  # a page has up to 2,000 instants; this was a quarter of what an entry of `GET /logs` costs
def _minute(minute: int) -> str:
    """`2024-01-01T10:35:`, of a minute since the epoch."""
    # Not `strftime`, which takes five times as long.
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()[:17]
