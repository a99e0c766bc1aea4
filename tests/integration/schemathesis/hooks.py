"""What schemathesis does beside its own checks: our rules, addresses, and paths at which there is something.

It imports nothing of ours: it runs in the process of schemathesis.
"""

from __future__ import annotations

import itertools
import re
from typing import Any
from urllib.parse import quote

import schemathesis
from schemathesis import GenerationMode

# Why a request that fits the schema may be refused all the same: each a rule between fields, or about what is there.
RULES = {
    r"from: it is later than to": "two fields",
    r"startDate: it is later than endDate": "two fields",
    r"start: it is later than end": "two fields",
    r"time_start: it is later than time_end": "two fields",
    r"time_end: it is too late; accepted: at most 90 days after time_start": "two fields",
    r"region_group: it is missing; accepted: one of region_group and database": "two fields",
    r"region_group: it differs from regionGroup": "two fields",
    r"start: it cannot be combined with after": "two fields",
    r"offset: it cannot be combined with cursor": "two fields",
    r"since: it cannot be combined with start or end": "two fields",
    r"(nextToken|cursor|next_token|after): it ": "a token is sealed: which ones there are, no schema says",
    r"\w+: it differs from the query that the token": "a token belongs to its query",
    r"(search|text): there is no word in it": "a text has a word in it",
    r"status: '.*' selects no status": "the first of a range is not above its last",
    r"start: it is missing; accepted: start, with or without end, or since": "one of two fields",
    r"minutes: \d+ make \d+ buckets": "two fields",
    r"(since|max_age): it is ": "what its parts add up to: at most 292 years",
    r"query string: it is longer than 8192 bytes": "all fields",
    r"filters: they are too long together": "all fields",
    r"database: it is ": "its parts are percent-encoded",
    r"(region_group|regionGroup|database): there is no region group": "region groups are a setting",
}
THERE = {
    "service": "gateway",
    "instanceResourceId": "acme-eu",
    "regionGroup": "classic",
    "region_group": "classic",
    "database": "classic/acme/gateway",
}
# A sealed token, or what excludes others.
ALONE = {"cursor", "nextToken", "next_token", "since", "offset", "idempotency_token"}
_addresses = itertools.count(1)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Each request comes from an address of its own, or the 31st without a key would be 429. Half of those that fit the
    schema ask for what is there."""
    n = next(_addresses)
    case.headers = {**(case.headers or {}), "X-Forwarded-For": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"}
    if not is_positive(case) or n % 2:
        return
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            for name, value in THERE.items():
                if name in part:
                    part[name] = value
            for name in part.keys() & ALONE:
                del part[name]


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """null, an empty text, array or object, and an array of one text are sent as nothing, as an empty parameter, which
    counts as absent, or as that text: nothing would be wrong."""
    return not query or (fits(query) and not any(is_nothing(value) for value in query.values()))


@schemathesis.hook
def filter_path_parameters(context: Any, path_parameters: Any) -> bool:
    return not path_parameters or fits(path_parameters)


def fits(parameters: Any) -> bool:
    """Into the head of a request. One of 64 KiB is refused while it is still being sent, and the client may see that
    its connection was reset."""
    return sum(len(quote(str(value), errors="replace")) for value in parameters.values()) < 15_000


def is_nothing(value: Any) -> bool:
    if isinstance(value, dict):
        return all(name == "" and (v == "" or is_nothing(v)) for name, v in value.items())
    if isinstance(value, list):
        return len(value) < 2 or all(v == "" or is_nothing(v) for v in value)
    return value is None or value == ""


@schemathesis.check
def refusal_is_one_of_our_rules(context: Any, response: Any, case: Any) -> None:
    """What fits the schema is refused by one of `RULES` alone."""
    if is_positive(case) and response.status_code == 400:
        text = response.text
        if not any(re.search(f'"(title":"Bad Request","status":400,"detail|message)":"{rule}', text) for rule in RULES):
            raise AssertionError(f"no rule between fields: {text[:500]}")


@schemathesis.check
def what_is_wrong_fails(context: Any, response: Any, case: Any) -> None:
    """Where a failure has the status 200, it says that it is one."""
    is_json = response.request.headers.get("content-type", "").startswith("application/json")  # others are taken, too
    is_wrong = case.meta is not None and not is_positive(case) and is_json
    if is_wrong and case.path == "/api" and response.status_code == 200 and '"success":false' not in response.text:
        raise AssertionError(f"it was accepted: {response.text[:500]}")


@schemathesis.check
def answer_is_never_422(context: Any, response: Any, case: Any) -> None:
    if response.status_code == 422:
        raise AssertionError("422")


def is_positive(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
