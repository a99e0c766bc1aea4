"""Field types shared by dialects: each parses a client's value, describes what is accepted, and has a JSON Schema.

URL parameters are text: use `digits` for whole numbers there, and `whole` in a body; likewise `Flag` and `bool`. All
other types accept the same text in both. `Annotated[int, digits(1, 50)]` sets bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from ..durations import ACCEPTED as DURATION_ACCEPTED
from ..durations import PATTERN as DURATION_PATTERN
from ..durations import TEXT_MAX as DURATION_TEXT_MAX
from ..durations import duration_ns
from ..errors import QueryError
from ..query.tokens import TOKEN_MAX
from ..record.derived import LEVELS
from ..store.query import StatusRange, statuses_of
from .instants import instant_ns
from .models import Checked, Refusal
from .params import shown

__all__ = [
    "INSTANT_ACCEPTED",
    "METHODS",
    "Duration",
    "Flag",
    "InstanceId",
    "Instant",
    "Level",
    "Method",
    "ServiceName",
    "Statuses",
    "Token",
    "digits",
    "instant",
    "matching",
    "one_of",
    "text",
    "whole",
]

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_DIGITS = re.compile(r"[0-9]{1,18}")
_INSTANCE = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff]{1,200}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
INSTANT_ACCEPTED = "an ISO 8601 date-time with offset, such as 2024-01-01T00:00:00Z or 2024-01-01T02:00:00.5+02:00"


def whole(low: int, high: int, *, hint: str = "") -> Checked:
    """A whole number in a body; 5.0 counts as one, as in JSON Schema. `hint`: advice when it is above `high`."""

    def number_of(value: Any) -> int | None:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    return _within(number_of, low, high, hint)


def digits(low: int, high: int, *, hint: str = "") -> Checked:
    """A whole number in a URL, 1 to 18 ASCII digits. `hint`: advice when it is above `high`."""

    def number_of(value: Any) -> int | None:
        return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else None

    return _within(number_of, low, high, hint)


def one_of(values: Sequence[str]) -> Checked:
    """Exactly one of these."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise ValueError
        return value

    return Checked(take, ", ".join(values), {"type": "string", "enum": list(values)})


def text(low: int, high: int, accepted: str = "") -> Checked:
    """Text of `low` to `high` characters without lone surrogates, so that it can be encoded."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or not low <= len(value) <= high or _SURROGATE.search(value):
            raise ValueError
        return value

    schema = {"type": "string", "minLength": low, "maxLength": high}
    return Checked(take, accepted or f"{low} to {high} characters", schema)


def matching(pattern: str, accepted: str, *, format: str = "") -> Checked:
    """Text that fully matches `pattern`. The pattern appears in the schema, so Python and ECMA 262 must interpret it
    equally. `format`: replaces it in the schema where JSON Schema has a name for the format."""
    compiled = re.compile(pattern, re.ASCII)

    def take(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    shown_as = {"format": format} if format else {"pattern": f"^(?:{pattern})$"}
    return Checked(take, accepted, {"type": "string", **shown_as})


def _within(number_of: Callable[[Any], int | None], low: int, high: int, hint: str) -> Checked:
    accepted = f"a whole number from {low} to {high}"

    def take(value: Any) -> int:
        number = number_of(value)
        if number is None or not low <= number <= high:
            is_above = number is not None and number > high
            raise Refusal(f"it is {shown(value)}; accepted: {accepted}", hint=hint if is_above else "")
        return number

    return Checked(take, accepted, {"type": "integer", "minimum": low, "maximum": high})


def instant(value: Any) -> int:
    """Nanoseconds since the epoch. Raises ValueError, with the reason for a date or time that does not exist."""
    try:
        ns = instant_ns(value) if isinstance(value, str) else None
    except ValueError:
        raise Refusal(f"{shown(value)} is not a valid date and time; accepted: {INSTANT_ACCEPTED}") from None
    if ns is None:
        raise ValueError
    return ns


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError
    return duration_ns(value)


def _statuses(value: Any) -> tuple[StatusRange, ...]:
    if not isinstance(value, str):
        raise ValueError
    try:
        return statuses_of(value)
    except QueryError as e:
        raise Refusal(str(e).partition(": ")[2]) from None


def _flag(value: Any) -> bool:
    if value not in ("true", "false"):
        raise ValueError
    return bool(value == "true")


def _instance(value: Any) -> str:
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value) or value in (".", ".."):
        raise ValueError
    return value


Duration = Annotated[
    int,
    Checked(
        _duration,
        DURATION_ACCEPTED,
        {"type": "string", "pattern": DURATION_PATTERN, "maxLength": DURATION_TEXT_MAX, "examples": ["24h", "1h30m"]},
    ),
]
"""Nanoseconds."""
Instant = Annotated[int, Checked(instant, INSTANT_ACCEPTED, {"type": "string", "format": "date-time"})]
"""Nanoseconds since the epoch; `instants.ms_of` makes the ms of a window."""

Level = Annotated[str, one_of(LEVELS)]
Method = Annotated[str, one_of(METHODS)]
Statuses = Annotated[
    tuple[StatusRange, ...],
    Checked(
        _statuses,
        "404, 4xx or 400-499, separated by commas",
        {
            "type": "string",
            "format": "status-ranges",
            "pattern": r"^\s*([1-9]xx|[1-9]\d\d(-[1-9]\d\d)?)\s*(,\s*([1-9]xx|[1-9]\d\d(-[1-9]\d\d)?)\s*)*$",
            "examples": ["404", "4xx", "400-499,503"],
        },
    ),
]
"""Ranges, both ends inclusive."""

Flag = Annotated[bool, Checked(_flag, "true or false", {"type": "boolean"})]
"""A boolean in a URL."""

Token = Annotated[str, Field(json_schema_extra={"maxLength": TOKEN_MAX})]
"""A sealed token. Length is checked when it is opened: a longer text is refused like any other invalid token."""

ServiceName = Annotated[
    str, matching(r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, underscores and hyphens")
]
InstanceId = Annotated[
    str,
    Checked(
        _instance,
        "1 to 200 characters without '/' and control characters; not '.' or '..'",
        {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^/\x00-\x1f\x7f]*$"},
    ),
]
