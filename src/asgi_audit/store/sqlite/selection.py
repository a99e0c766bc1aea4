"""Translates a query into SQL over one day file: the full-text lookup, and the conditions checked on each row.

Every filter is also a word of the full text, so rows that do not match are not read. The real columns are checked
again, because a word is a truncated hash and two values may share it. Days of version 1 lack the words and columns of
some filters (see `unknown_to_version_1`).
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, NamedTuple

import apsw

from ..query import Query
from .packing import pack_hex, pack_uuid
from .schema import SLOTS, stream_token, token

__all__ = [
    "ROLLED_UP",
    "Selection",
    "checks_of",
    "ids_of",
    "is_of_all",
    "kinds_of",
    "select",
    "unknown_to_version_1",
    "unrolled",
]

ROLLED_UP = ("accounts", "account", "service", "levels", "failure", "method", "statuses", "except_service")
_FILTERS = (*ROLLED_UP, "instance", "text", "principal", "operation", "request_id", "region", "outcome", "client",
            "route", "path_prefix", "trace_id")  # fmt: skip
_LATER = ("outcome", "client", "route", "path_prefix", "trace_id")
_WORDS_MAX = 1_000  # of one filter; with more values only the rows are checked


class Selection(NamedTuple):
    """`FROM source WHERE where` with `values`; `key` is the column of the row's id to order by."""

    source: str
    where: str
    values: list[Any]
    key: str


def unknown_to_version_1(query: Query) -> str | None:
    """The first filter that days of version 1 have no index for; None when they have all."""
    if any(len(phrase) > 1 for phrase in query.phrases):
        return "text"
    return next((name for name in _LATER if getattr(query, name) is not None), None)


def unrolled(query: Query) -> str | None:
    """The first filter that the rollup cannot evaluate; None when it can evaluate all."""
    return next((name for name in _FILTERS if name not in ROLLED_UP and getattr(query, name) is not None), None)


def select(
    connection: apsw.Connection, query: Query, version: int, published: int, low: int, high: int
) -> Selection | None:
    """The rows of the query with `low` <= id < `high`, visible at `published`; None when the day cannot contain any."""
    found = _match(connection, query, version)
    if found is None:
        return None
    key, source, where = "r.id", "record r", "r.id >= ? AND r.id < ?"
    values: list[Any] = [low, high]
    if found:
        # First in FROM: SQLite walks the full text and looks up each of its rows.
        key, source = "f.rowid", "fulltext f CROSS JOIN record r ON r.id = f.rowid"
        where = "f.fulltext MATCH ? AND f.rowid >= ? AND f.rowid < ?"
        values.insert(0, found)
    checks, checked = checks_of(query, version)
    if any(v is not None for v in (query.wanted_accounts, query.service, query.instance, query.except_service)):
        source += " CROSS JOIN stream s ON s.sid = r.sid"
    if "h." in checks:
        source += " CROSS JOIN shape h ON h.shape = r.shape"
    where += " AND r.iseq <= ? AND r.timestamp >= ? AND r.timestamp < ?" + checks
    return Selection(source, where, [*values, published, query.start, query.end, *checked], key)


def ids_of(query: Query, spill: int) -> tuple[int, int]:
    """The range of ids that the query's records may have: `low` inclusive, `high` exclusive."""
    return max(0, query.start - spill) * SLOTS, (query.end + spill) * SLOTS


def kinds_of(query: Query, *, of_all: bool = False) -> tuple[str, list[Any]]:
    """The SQL condition on rows of `kind k` for the query's filters. `of_all`: select the rows that sum up all
    accounts, services and methods."""
    sql, values = _conditions(query, {
        "account": "k.account", "service": "k.service", "method": "k.method", "level": "k.level", "status": "k.status",
    })  # fmt: skip
    return f" AND k.account IS {'' if of_all else 'NOT '}NULL{sql}", values


def is_of_all(query: Query) -> bool:
    """Whether the rows that sum up all accounts, services and methods, by level and class of status, suffice."""
    statuses = query.statuses or ()
    return (query.wanted_accounts, query.service, query.method, query.except_service) == (None,) * 4 and all(
        low % 100 == 0 and high % 100 == 99 for low, high in statuses
    )


def checks_of(query: Query, version: int) -> tuple[str, list[Any]]:
    """The conditions on the real columns of `record r`, its `stream s` and its `shape h`, but the window."""
    of, packed_id, packed_trace = ("r", str, str) if version == 1 else ("h", pack_uuid, pack_hex)
    sql, values = _conditions(query, {
        "account": "s.account", "service": "s.service", "method": f"{of}.method", "level": f"{of}.level",
        "status": f"{of}.status",
    })  # fmt: skip
    for column, value in (
        ("s.instance", query.instance),
        ("r.principal", query.principal),
        (f"{of}.operation", query.operation),
        ("r.request_id", None if query.request_id is None else packed_id(query.request_id)),
        (f"{of}.region", query.region),
        (f"{of}.outcome", query.outcome),
        ("r.client", query.client),
        (f"{of}.route", query.route),
        ("r.trace_id", None if query.trace_id is None else packed_trace(query.trace_id)),
    ):
        if value is not None:
            sql += f" AND {column} = ?"
            values.append(value)
    if query.prefix is not None:
        # The prefix as `prefixes_of` yields it, followed by '/'. `substr` instead of LIKE, which has wildcards.
        begin = query.prefix.rstrip("/") + "/"
        sql += f" AND {of}.route <> '' AND substr('/' || trim({of}.route, '/') || '/', 1, ?) = ?"
        values += [len(begin), begin]
    return sql, values


def _conditions(query: Query, columns: dict[str, str]) -> tuple[str, list[Any]]:
    sql = ""
    values: list[Any] = []
    for name, wanted in (("account", query.wanted_accounts), ("level", query.wanted_levels)):
        if wanted is not None:
            sql += f" AND {columns[name]} IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(sorted(wanted)))
    for name, value in (("service", query.service), ("method", query.method)):
        if value is not None:
            sql += f" AND {columns[name]} = ?"
            values.append(value)
    if query.except_service is not None:
        sql += f" AND {columns['service']} <> ?"
        values.append(query.except_service)
    if query.statuses is not None:
        between = [f"{columns['status']} BETWEEN ? AND ?"] * len(query.statuses)
        sql += f" AND ({' OR '.join(between) or '0'})"
        values += [bound for selected in query.statuses for bound in selected]
    return sql, values


def _match(connection: apsw.Connection, query: Query, version: int) -> str | None:
    """The full-text expression; '' when there is nothing to look up, None when nothing can match. User text appears in
    it as quoted words only."""
    filters = [
        ("m", query.method),
        ("o", query.operation),
        ("q", query.request_id),
        ("r", query.region),
        ("u", query.outcome),
        ("h", query.client),
        ("w", query.route),
        ("z", query.trace_id),
    ]
    if version > 1 or query.principal:  # in version 1, records without a principal have no word for that
        filters.append(("p", query.principal))
    word = partial(token, version=version)
    any_of: list[list[str] | None] = []
    if query.prefix is not None:
        any_of.append([word("x", query.prefix), word("w", query.prefix)])
    accounts = None if query.wanted_accounts is None else sorted(query.wanted_accounts)
    if accounts is not None and query.service is not None and query.instance is not None:
        any_of.append([stream_token(a, query.service, query.instance, version) for a in accounts])
    else:
        filters += [("s", query.service), ("i", query.instance)]
        any_of.append(None if accounts is None else [word("a", a) for a in accounts])
    if query.wanted_levels is not None:
        any_of.append([word("l", level) for level in sorted(query.wanted_levels)])
    any_of += [_status_words(connection, query, version), _other_services(connection, query, version)]
    parts = []
    for words in any_of:
        if words is not None and not words:
            return None
        if words is not None and len(words) <= _WORDS_MAX:
            parts.append(f"tokens : ({' OR '.join(words)})")
    parts += [f"tokens : {word(kind, value)}" for kind, value in filters if value is not None]
    parts += [f'message : "{" ".join(phrase)}"' for phrase in query.phrases]
    return " AND ".join(parts)


def _status_words(connection: apsw.Connection, query: Query, version: int) -> list[str] | None:
    if query.statuses is None:
        return None
    there: list[Any] = list(range(100, 1000))
    if version > 1:
        there = [status for (status,) in connection.execute("SELECT DISTINCT status FROM shape").fetchall()]
    return [token("c", str(s), version) for s in there if any(low <= s <= high for low, high in query.statuses)]


def _other_services(connection: apsw.Connection, query: Query, version: int) -> list[str] | None:
    """All services of the day except the excluded one; None when the day does not have it."""
    if query.except_service is None or query.service is not None:
        return None
    services: list[Any] = [name for (name,) in connection.execute("SELECT DISTINCT service FROM stream").fetchall()]
    if query.except_service not in services:
        return None
    return [token("s", name, version) for name in services if name != query.except_service]
