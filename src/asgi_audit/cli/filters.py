"""The filters of `ask` and `tail`: flags, and the subset that each dialect accepts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..durations import ACCEPTED, duration_ns
from ..errors import ConfigError, QueryError
from ..record.derived import LEVELS
from ..record.line import TIME_END
from ..store.query import Query, statuses_of

__all__ = ["add_filters", "filters_of", "query_of", "refuse_others", "window_of"]

_INSTANT = "2026-01-31, or a time with its zone such as 2026-01-31T12:00:00Z"

_DATE_LENGTH = len("2026-01-31")
_DAY_MS = 86_400_000
_FLAGS = {
    "since": ("DURATION", "only the last 15m, 1h30m, 7d, …"),
    "start": ("TIME", "start, inclusive: 2026-01-31, or 2026-01-31T12:00:00Z"),
    "end": ("TIME", "end, inclusive; a date means its whole day (UTC)"),
    "account": ("NAME", "one account"),
    "service": ("NAME", "one service; default: all except logs, the reads of the API"),
    "instance": ("NAME", "one instance"),
    "level": ("LEVELS", "DEBUG, INFO, WARN, ERROR, FATAL; separated by commas"),
    "status": ("STATUS", "404, 4xx or 400-499; separated by commas"),
    "method": ("METHOD", "GET, POST, …"),
    "path": ("PATH", "route template begins with these segments: /orders, or '/orders/*'"),
    "route": ("TEMPLATE", "exactly this route template, such as '/orders/{id}'"),
    "principal": ("NAME", "the caller"),
    "client": ("ADDRESS", "address of the client"),
    "operation": ("NAME", "name of the operation"),
    "outcome": ("OUTCOME", "completed, failed, disconnected, cancelled or interrupted"),
    "region": ("REGION", "global or eu"),
    "request-id": ("ID", "X-Request-ID of the request"),
    "trace-id": ("ID", "trace of the request"),
    "text": ("WORDS", 'words, or a "quoted phrase", in the message'),
}


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters", "records must match all of them")
    for name, (metavar, help) in _FLAGS.items():
        group.add_argument(f"--{name}", metavar=metavar, dest=f"filter_{name.replace('-', '_')}", help=help)


def filters_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The given filters, under their names in the API."""
    given = {
        name.removeprefix("filter_"): value
        for name, value in vars(arguments).items()
        if name.startswith("filter_") and value is not None
    }
    if "path" in given:
        given["path_prefix"] = prefix_of(given.pop("path"))
    return given


def query_of(given: Mapping[str, Any], now: float) -> Query:
    """The store query that the API would make of these filters. `now`: seconds since the epoch. Raises ConfigError."""
    found: dict[str, Any] = {name: value for name, value in given.items() if name not in ("since", "start", "end")}
    found["start"], found["end"] = window_of(given, now)
    levels = found.pop("level", None)
    if levels is not None:
        found["levels"] = frozenset(level.strip() for level in levels.split(","))
        if not found["levels"] <= set(LEVELS):
            raise ConfigError(f"--level is {levels!r}; accepted: {', '.join(LEVELS)}, separated by commas")
    try:
        if "status" in found:
            found["statuses"] = statuses_of(found.pop("status"), field="--status")
        return Query(accounts=None, **found)
    except QueryError as e:
        raise ConfigError(str(e), hint=e.hint) from None


def window_of(given: Mapping[str, Any], now: float) -> tuple[int, int]:
    """(start, end) in ms since the epoch, end exclusive; (0, TIME_END) without a time filter. Raises ConfigError."""
    start, end = 0, TIME_END
    if "since" in given:
        if "start" in given or "end" in given:
            raise ConfigError("--since cannot be combined with --start or --end")
        try:
            start = max(0, int(now * 1000) - duration_ns(given["since"]) // 1_000_000)
        except ValueError:
            raise ConfigError(f"--since is {given['since']!r}; accepted: {ACCEPTED}") from None
    if "start" in given:
        start = _ms("--start", given["start"])
    if "end" in given:
        # Inclusive: a plain date means the whole day.
        end = _ms("--end", given["end"]) + (_DAY_MS if len(given["end"]) == _DATE_LENGTH else 1)
    return start, end


def _ms(flag: str, text: str) -> int:
    try:
        at = datetime.fromisoformat(f"{text}T00:00:00+00:00" if len(text) == _DATE_LENGTH else text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigError(f"{flag} is {text!r}; accepted: {_INSTANT}")
    return max(0, min(int(at.timestamp() * 1000), TIME_END))


def prefix_of(path: str) -> str:
    """`/orders/*` means `/orders`. Raises ConfigError for any other pattern."""
    prefix = path.removesuffix("*").rstrip("/") or "/"
    if "*" in prefix or not prefix.startswith("/"):
        raise ConfigError(
            f"--path is {path!r}; accepted: whole segments from the first, such as /orders or '/orders/*'"
        )
    return prefix


def refuse_others(given: dict[str, Any], accepted: tuple[str, ...], what: str) -> None:
    """Raises ConfigError for a filter that `what` does not accept."""
    for name in given:
        if name not in accepted:
            flags = ", ".join(f"--{known.replace('_', '-')}" for known in accepted)
            flag = "--path" if name == "path_prefix" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"ask {what} takes no {flag}; accepted: {flags}")
