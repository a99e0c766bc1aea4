"""A query to the store: one `Query`, validated on construction, and `matches`, which returns whether a record matches
it.

`matches` defines every filter in plain Python. A store finds the same records through its indexes; the tests compare
the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..errors import QueryError
from ..record.codec import Decoded
from ..record.derived import LEVELS
from ..record.words import Phrases, phrases_of, words

__all__ = ["FAILED", "Order", "Query", "StatusRange", "matches", "prefixes_of", "statuses_of"]

Order = Literal["newest", "oldest"]
StatusRange = tuple[int, int]
"""Both ends inclusive."""
FAILED = frozenset(("ERROR", "FATAL"))
_SELECTOR = re.compile(r"([1-9])xx|([1-9]\d\d)(?:-([1-9]\d\d))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Query:
    """The filters of a query; None: not filtered. `accounts` None means all (a key with `*`). Window in ms since the
    epoch: `start` inclusive, `end` exclusive. Raises QueryError ('invalid', naming the field) for a value that no
    record can have.

    Append new fields at the end: sealed tokens hold the values in this order."""

    accounts: frozenset[str] | None
    start: int
    end: int
    service: str | None = None
    instance: str | None = None
    method: str | None = None
    levels: frozenset[str] | None = None  # any of them
    text: str | None = None  # words and "phrases"; the message must contain all of them: see `record.words`
    principal: str | None = None  # '': records without a principal
    operation: str | None = None
    request_id: str | None = None
    failure: bool | None = None  # True: level ERROR or FATAL; False: any other level
    region: str | None = None
    statuses: tuple[StatusRange, ...] | None = None  # any of them: see `statuses_of`
    outcome: str | None = None
    client: str | None = None
    route: str | None = None  # the whole template
    path_prefix: str | None = None  # of the route template, by whole segments: see `prefixes_of`
    trace_id: str | None = None
    except_service: str | None = None  # left out
    order: Order = "newest"
    account: str | None = None  # one of `accounts`

    def __post_init__(self) -> None:
        # A token's payload knows lists only.
        if self.levels is not None:
            object.__setattr__(self, "levels", frozenset(self.levels))
        if self.statuses is not None:
            object.__setattr__(self, "statuses", tuple((low, high) for low, high in self.statuses))
        for name in ("outcome", "client", "route", "path_prefix", "trace_id"):
            if getattr(self, name) == "":
                raise QueryError(f"{name}: it is empty; omit it for all", field=name)
        if self.path_prefix is not None and not self.path_prefix.startswith("/"):
            raise QueryError(f"path_prefix: it must begin with '/', not {self.path_prefix[:1]!r}", field="path_prefix")
        if self.order not in ("newest", "oldest"):
            raise QueryError("order: accepted: newest, oldest", field="order")
        if self.text is not None:
            _ = self.phrases

    @cached_property
    def phrases(self) -> Phrases:
        """The phrases of `text`; empty when there is no text."""
        return () if self.text is None else phrases_of(self.text)

    @cached_property
    def prefix(self) -> str | None:
        """`path_prefix` in the form that `prefixes_of` yields."""
        return None if self.path_prefix is None else "/" + self.path_prefix.strip("/")

    @cached_property
    def wanted_accounts(self) -> frozenset[str] | None:
        """The accounts that pass both `accounts` and `account`; None: all."""
        if self.account is None:
            return self.accounts
        return frozenset({self.account} if self.accounts is None or self.account in self.accounts else ())

    @cached_property
    def wanted_levels(self) -> frozenset[str] | None:
        """The levels that pass both `levels` and `failure`; None: all."""
        if self.failure is None:
            return self.levels
        left = FAILED if self.failure else frozenset(LEVELS) - FAILED
        return left if self.levels is None else left & self.levels


def statuses_of(text: str, *, field: str = "status") -> tuple[StatusRange, ...]:
    """Parses `404`, `4xx` or `400-499`, separated by commas. Raises QueryError ('invalid', naming `field`)."""
    found = []
    for part in text.split(","):
        match = _SELECTOR.fullmatch(part.strip())
        hundreds, low, high = match.groups() if match else (None, None, None)
        if hundreds is not None:
            found.append((int(hundreds) * 100, int(hundreds) * 100 + 99))
        elif low is not None and int(high or low) >= int(low):
            found.append((int(low), int(high or low)))
        else:
            raise QueryError(
                f"{field}: {part.strip()[:40]!r} selects no status; accepted: 404, 4xx and 400-499, from 100 to 999",
                field=field,
            )
    return tuple(found)


def prefixes_of(route: str) -> list[str]:
    """Every `path_prefix` that finds a route template: for `/a/{id}/b` these are `/`, `/a`, `/a/{id}` and `/a/{id}/b`.
    [] for an empty route."""
    if not route:
        return []
    segments = route.strip("/").split("/") if route.strip("/") else []
    return ["/", *("/" + "/".join(segments[:n]) for n in range(1, len(segments) + 1))]


def matches(query: Query, d: Decoded) -> bool:
    q = query
    return (
        (q.wanted_accounts is None or d.account in q.wanted_accounts)
        and q.start <= d.timestamp < q.end
        and q.service in (None, d.service)
        and q.instance in (None, d.instance)
        and q.method in (None, d.method)
        and q.principal in (None, d.principal)
        and q.operation in (None, d.operation)
        and q.request_id in (None, d.request_id)
        and q.region in (None, d.region)
        and q.outcome in (None, d.outcome)
        and q.client in (None, d.client)
        and q.route in (None, d.route)
        and q.trace_id in (None, d.trace_id)
        and (q.except_service is None or q.except_service != d.service)
        and (q.wanted_levels is None or d.level in q.wanted_levels)
        and (q.statuses is None or any(low <= d.status <= high for low, high in q.statuses))
        and (q.prefix is None or q.prefix in prefixes_of(d.route))
        and (q.text is None or _contains_phrases(words(d.message), q.phrases))
    )


def _contains_phrases(message: list[str], phrases: Iterable[tuple[str, ...]]) -> bool:
    """Whether the words of a message contain all phrases."""
    return all(any(tuple(message[i : i + len(p)]) == p for i in range(len(message))) for p in phrases)
