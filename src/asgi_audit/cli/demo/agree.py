"""Checks that a result contains each request sent exactly once, as its client saw it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .drive import Sent

__all__ = [
    "Agreement",
    "ShownRequest",
    "agree",
    "agree_but_for_ids",
    "seen_in_entry",
    "seen_in_record",
    "seen_in_result",
]


class ShownRequest(NamedTuple):
    """A request as shown in a result; `request_id` is '' when the result has none."""

    request_id: str
    method: str
    path: str
    status: int


class Agreement(NamedTuple):
    """`right`: number of sent requests that the result shows correctly."""

    right: int
    problems: list[str]


def agree(who: str, sent: Sequence[Sent], seen: Iterable[ShownRequest]) -> Agreement:
    found: dict[str, list[ShownRequest]] = {}
    for one in seen:
        found.setdefault(one.request_id, []).append(one)
    problems = []
    count = 0
    for s in sent:
        same = found.pop(s.request_id, [])
        if len(same) != 1:
            problems.append(f"{who} holds {s.request_id} ({s.method} {s.path}) {len(same)} times")
        elif same[0][1:] != (s.method, s.path, s.status):
            problems.append(
                f"{who} holds {s.request_id} as {same[0][1:]}, its client saw {s.method} {s.path} {s.status}"
            )
        else:
            count += 1
    if found:
        problems.append(f"{who} holds {len(found)} records of requests that were not sent")
    return Agreement(count, problems)


def agree_but_for_ids(who: str, sent: Sequence[Sent], seen: Iterable[ShownRequest]) -> Agreement:
    """The same for results without request ids: compares method, path and status, and how often each was sent."""
    wanted = Counter((s.method, s.path, s.status) for s in sent)
    found = Counter(one[1:] for one in seen)
    problems = [f"{who} lacks {one} {n} times" for one, n in (wanted - found).items()]
    problems += [f"{who} holds {one} {n} times too often" for one, n in (found - wanted).items()]
    return Agreement((wanted & found).total(), problems)


def seen_in_record(record: dict[str, Any]) -> ShownRequest:
    request = record["request"]
    return ShownRequest(
        record["metadata"]["requestId"], request["method"], request["path"], record["response"]["statusCode"]
    )


def seen_in_entry(entry: dict[str, Any]) -> ShownRequest:
    """Of `GET /logs`."""
    details = entry["details"]
    return ShownRequest(details["request_id"], details["method"], details["path"], details["status_code"])


def seen_in_result(result: dict[str, Any]) -> ShownRequest:
    """Of `usage.api.list`."""
    request, response = json.loads(result["request"]), json.loads(result["response"])
    return ShownRequest("", request["method"], request["path"], response["statusCode"])
