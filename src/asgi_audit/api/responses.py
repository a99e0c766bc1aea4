"""The responses of an operation, for OpenAPI: success, and each failure in the format of its dialect.

The example of an error is the real response of the dialect to such a failure.
"""

from __future__ import annotations

import json
from typing import Any

from ..control.keys import ROLES
from ..errors import QueryError
from .failure import STATUSES, Failure, failure_of, phrase_of
from .operation import Operation
from .params import BODY_BYTES_MAX
from .schemas import Components

__all__ = ["HEADERS", "failures_of", "responses_of"]

HEADERS: dict[str, Any] = {
    "Audit-Complete-From": {
        "description": "Start of the time for which completeness is known. Nothing is claimed about earlier requests. "
        "Absent until the indexer has read its source once.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "Audit-Complete-Until": {
        "description": "Every request that began before this time (exclusive) is in the index, except those counted by "
        "`Audit-Incidents` and `Audit-Open`. Absent until a process has reported once what it recorded.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "Audit-Incidents": {
        "description": "Number of incidents in the time range, such as missing records or a process that stopped "
        "reporting.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Audit-Open": {
        "description": "Number of requests in the time range that have run for more than a minute and have no record "
        "yet.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Audit-Total": {
        "description": "Exact number of records on all pages. Absent with `count=false`.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Audit-Cursor": {
        "description": "Cursor of the next page. Absent on the last page; `/feed` always has one.",
        "schema": {"type": "string"},
    },
    "Audit-More": {
        "description": "Whether the next page has records already.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    "Link": {
        "description": "The next page, as `rel=\"next\"`, relative to this URL (RFC 8288).",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.", "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate (RFC 9110).", "required": True, "schema": {"type": "string"},
    },
}  # fmt: skip
_COMPLETENESS = ("Audit-Complete-From", "Audit-Complete-Until", "Audit-Incidents", "Audit-Open")
_HEADERS_OF = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_ERRORS = [
    QueryError("form: there is no such parameter; accepted: from", kind="invalid"),
    QueryError("a valid API key is required", kind="unauthorized"),
    QueryError("the role reader may not do this", kind="forbidden"),
    QueryError("not found, or it has expired", kind="missing"),
    QueryError(f"body: it is longer than {BODY_BYTES_MAX} bytes", kind="too_large"),
    QueryError("this key has 64 responses in flight, which is the limit", kind="busy"),
    QueryError("too many records to count within 2 s; use a shorter time range", kind="too_costly"),
]
_FAILURES = {STATUSES[error.kind]: failure_of(error, {}) for error in _ERRORS} | {
    500: Failure(500, "an unexpected error happened (reference 6f1d2c3b4a59)", "Try again."),
}


def failures_of(operation: Operation) -> list[int]:
    """Statuses of failures, before a dialect maps them to other ones. 405 is not among them: routing sends it."""
    found = {400, 500, 503}  # 400 also for a request that is not HTTP
    if operation.roles:
        found |= {401, 429}
    if operation.roles and operation.roles != frozenset(ROLES):
        found.add(403)
    if operation.path_values is not None:
        found.add(404)
    if operation.request is not None:
        found.add(413)
    return sorted(found | set(operation.more_failures))


def responses_of(operation: Operation, components: Components) -> dict[str, Any]:
    """The responses by status. Where a dialect sends failures with status 200, result and error are alternatives."""
    success = _success(operation, components)
    found = {"200": success}
    for status, meaning in operation.more_answers.items():
        found[str(status)] = {**success, "description": meaning}
    for status in failures_of(operation):
        failure = _failure(operation, status, components)
        sent = str(operation.dialect.sent_status(status))
        if sent not in found:
            found[sent] = failure
            continue
        # A failure has none of the headers of a success.
        found[sent]["headers"] = {name: HEADERS[name] | {"required": False} for name in found[sent].get("headers", {})}
        for content_type, content in failure["content"].items():
            _or(found[sent]["content"].setdefault(content_type, content), content)
    return found


def _success(operation: Operation, components: Components) -> dict[str, Any]:
    if operation.answer is None:
        content: dict[str, Any] = {"schema": {"type": "string"} if operation.content_type.startswith("text/") else {}}
    else:
        content = {"schema": components.reference(operation.dialect.name, operation.answer, is_sent=True)}
    if operation.example.answer is not None:
        content["example"] = operation.example.answer
    found: dict[str, Any] = {"description": operation.summary, "content": {operation.content_type: content}}
    for content_type in operation.more_content_types:
        found["content"][content_type] = {"schema": {}}
    if headers := (*(_COMPLETENESS if operation.roles else ()), *operation.headers):
        found["headers"] = _headers(headers)
    return found


def _failure(operation: Operation, status: int, components: Components) -> dict[str, Any]:
    dialect = operation.dialect
    model = operation.failures.get(status)
    if model is not None:
        content: dict[str, Any] = {"schema": components.reference(dialect.name, model, is_sent=True)}
        content_type = operation.content_type
    else:
        answer = dialect.fail(_FAILURES.get(status) or Failure(status, phrase_of(status)))
        content_type = dialect.content_type
        content = {
            "schema": components.reference(dialect.name, dialect.error, is_sent=True),
            "example": json.loads(bytes(answer.body)),
        }
    found: dict[str, Any] = {"description": phrase_of(status), "content": {content_type: content}}
    if status in _HEADERS_OF:
        found["headers"] = _headers(_HEADERS_OF[status])
    return found


def _headers(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _or(content: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds an alternative."""
    schemas = content["schema"].get("anyOf", [content["schema"]])
    if other["schema"] not in schemas:
        content["schema"] = {"anyOf": [*schemas, other["schema"]]}
