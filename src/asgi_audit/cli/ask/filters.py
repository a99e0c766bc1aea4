"""The filters of `ask` and `tail`: flags, and what each dialect takes of them."""

from __future__ import annotations

import argparse
from typing import Any

from ...errors import ConfigError

__all__ = ["add_filters", "filters_of", "refuse_others"]

_FLAGS = {
    "since": ("DURATION", "from so long ago, such as 15m, 1h30m or 7d"),
    "start": ("TIME", "from then on: 2026-01-31, or 2026-01-31T12:00:00Z"),
    "end": ("TIME", "up to then, inclusive"),
    "account": ("NAME", "one account"),
    "service": ("NAME", "one service; without it, reads of the API (service logs) are left out"),
    "instance": ("NAME", "one instance"),
    "level": ("LEVELS", "DEBUG, INFO, WARN, ERROR, FATAL; several with commas"),
    "status": ("STATUS", "404, 4xx or 400-499; several with commas"),
    "method": ("METHOD", "GET, POST, …"),
    "path": ("PATH", "the route's template begins with it, by whole segments: /orders, or '/orders/*'"),
    "route": ("TEMPLATE", "the whole template of the route, such as '/orders/{id}'"),
    "principal": ("NAME", "who called"),
    "client": ("ADDRESS", "from which address"),
    "operation": ("NAME", "which operation"),
    "outcome": ("OUTCOME", "completed, disconnected, error, …"),
    "region": ("REGION", "global or eu"),
    "request-id": ("ID", "the request that carried it"),
    "trace-id": ("ID", "the trace that it belongs to"),
    "text": ("WORDS", 'words, or a "quoted phrase", of the message'),
}


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters", "all that are given have to hold")
    for name, (metavar, help) in _FLAGS.items():
        group.add_argument(f"--{name}", metavar=metavar, dest=f"filter_{name.replace('-', '_')}", help=help)


def filters_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those that were given, by the names that the API has for them."""
    given = {
        name.removeprefix("filter_"): value
        for name, value in vars(arguments).items()
        if name.startswith("filter_") and value is not None
    }
    if "path" in given:
        given["path_prefix"] = prefix_of(given.pop("path"))
    return given


def prefix_of(path: str) -> str:
    """`/orders/*` means `/orders`. Raises ConfigError for any other pattern."""
    prefix = path.removesuffix("*").rstrip("/") or "/"
    if "*" in prefix or not prefix.startswith("/"):
        raise ConfigError(
            f"--path is {path!r}; accepted: whole segments from the first, such as /orders or '/orders/*'"
        )
    return prefix


def refuse_others(given: dict[str, Any], accepted: tuple[str, ...], what: str) -> None:
    """Raises ConfigError for a filter that `what` does not take."""
    for name in given:
        if name not in accepted:
            flags = ", ".join(f"--{known.replace('_', '-')}" for known in accepted)
            flag = "--path" if name == "path_prefix" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"ask {what} takes no {flag}; accepted: {flags}")
