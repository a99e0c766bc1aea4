"""What an operation may answer, for OpenAPI: its answer, and each failure in the words of its dialect.

An error's example is what the dialect really says of such a failure.
"""

from __future__ import annotations

import json
from typing import Any

from ..control.keys import ROLES
from ..errors import QueryError
from .failure import STATUSES, Failure, failure_of, phrase_of
from .head import TOO_LONG
from .operation import Operation
from .params import BODY_BYTES_MAX
from .schemas import Components

__all__ = ["HEADERS", "failures_of", "responses_of"]

HEADERS: dict[str, Any] = {
    "Audit-Complete-From": {
        "description": "Of what began before this nothing is claimed. Absent before the source was first read.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "Audit-Complete-Until": {
        "description": "All that began before this (exclusive) is indexed, but for what the two others count. Absent"
        " before the first statement of a process.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "Audit-Incidents": {
        "description": "Incidents that overlap the window: records that are missing, processes that fell silent.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Audit-Open": {
        "description": "Exchanges begun in the window that are open for long, and so no records yet.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Audit-Total": {
        "description": "Of all pages, exact. Absent when it was not asked for.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Audit-Cursor": {
        "description": "Brings the page after this one. Absent on the last one.", "schema": {"type": "string"},
    },
    "Audit-More": {
        "description": "Whether the page after this one has records already.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    "Link": {
        "description": "The page after this one, as `rel=\"next\"`, relative to this one (RFC 8288).",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {
        "description": "How to authenticate.", "required": True, "schema": {"type": "string"},
    },
}  # fmt: skip
_COMPLETENESS = ("Audit-Complete-From", "Audit-Complete-Until", "Audit-Incidents", "Audit-Open")
_HEADERS_OF = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_ERRORS = [
    QueryError("form: there is no such parameter; accepted: from", kind="invalid"),
    QueryError("a valid API key is required", kind="unauthorized"),
    QueryError("the role reader may not do this", kind="forbidden"),
    QueryError("there is no such thing, or it has expired", kind="missing"),
    QueryError(f"body: it is longer than {BODY_BYTES_MAX} bytes", kind="too_large"),
    QueryError("this key has 64 answers in flight, which is the most", kind="busy"),
    QueryError("too many records to count within 2 s; narrow the window", kind="too_costly"),
]
_FAILURES = {STATUSES[error.kind]: failure_of(error, {}) for error in _ERRORS} | {
    431: TOO_LONG,
    500: Failure(500, "an unexpected error happened (reference 6f1d2c3b4a59)", "Try again."),
}


def failures_of(operation: Operation) -> list[int]:
    """Statuses, as failures have them before a dialect sends others. 405 is no answer of an operation."""
    found = {400, 431, 500, 503}  # a request that is no HTTP is 400, too
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
    """By the status that is sent. Where a dialect sends failures as 200, answer and error are alternatives."""
    success = _success(operation, components)
    found = {"200": success}
    for status, meaning in operation.more_answers.items():
        found[str(status)] = {**success, "description": meaning}
    for status in failures_of(operation):
        failure = _failure(operation, status, components)
        sent = str(operation.dialect.sends(status))
        if sent not in found:
            found[sent] = failure
            continue
        # A failure brings none of the headers of a success.
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
