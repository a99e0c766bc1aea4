"""Parses durations as users write them: `24h`, `1h30m`, `1.5s`, `7d`.

The grammar of Go's `time.ParseDuration`, which clients of `usage.api.list` use, plus `d` for 24 hours.
"""

from __future__ import annotations

import re

__all__ = ["ACCEPTED", "AGE_ACCEPTED", "AGE_PATTERN", "PATTERN", "TEXT_MAX", "age_seconds", "duration_ns"]

ACCEPTED = "a duration such as 24h, 1h30m or 7d, with the units ns, us, ms, s, m, h and d"
AGE_ACCEPTED = "a duration such as 90s or 5m, or a whole number of seconds"
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, micro sign
    "μs": 10**3,  # U+03BC, Greek letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h|d)")
_PARTS = "(0|(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h|d))+)"
PATTERN = rf"^\+?{_PARTS}$"
"""Texts that `duration_ns` accepts, of at most `TEXT_MAX` characters, for a JSON Schema."""
AGE_PATTERN = rf"^([0-9]{{1,9}}|\+?{_PARTS})$"
_NS_MAX = (1 << 63) - 1  # maximum of Go's Duration: 292 years
TEXT_MAX = 200


def duration_ns(text: str) -> int:
    """Parses a duration into nanoseconds, 0 or more. Parts of a number and a unit are added; `0` needs no unit.
    Fractions of a nanosecond are dropped. More than 292 years, the most that Go's Duration holds, count as 292 years:
    no record is older. Raises ValueError, without a message, for a negative duration, a number without a unit, and
    spaces."""
    rest = text.removeprefix("+")
    if rest == "0":
        return 0
    if not rest or len(text) > TEXT_MAX:
        raise ValueError
    total = at = 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            raise ValueError
        whole, fraction, unit = part.groups()
        if not whole and not fraction:
            raise ValueError
        total += int(whole or "0") * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
        at = part.end()
    return min(total, _NS_MAX)


def age_seconds(text: str) -> float:
    """Parses a duration, or a whole number of seconds, into seconds. Raises ValueError as `duration_ns` does."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    return duration_ns(text) / 1e9
