"""The JSON Schema (draft 2020-12) of a record of schema 1.0, for producers and readers of records.

Only `context` is open: later versions may add keys to it, and unknown keys are kept. Everything else has exactly the
documented fields. `context` and `context.capture` may be missing in records of other producers.
"""

from __future__ import annotations

from typing import Any

from .derived import LEVELS
from .line import TIME_END

__all__ = ["CAPTURED", "OUTCOMES", "SCHEMA_ID", "json_schema"]

SCHEMA_ID = "urn:asgi-audit:record:1.0"
OUTCOMES = ("completed", "failed", "disconnected", "cancelled", "interrupted")
CAPTURED = ("full", "truncated", "omitted", "empty", "unread", "undecodable", "pressure")


def _string(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _integer(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "description": description, **more}


def _object(
    description: str, properties: dict[str, Any], required: list[str] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


def _strings(description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": {"$ref": "#/$defs/stringOrStrings"},
    }


def _body(description: str) -> dict[str, Any]:
    return {
        "description": description
        + " JSON exactly as it was sent; text, and every truncated body, as a string; a form as an object of strings "
        "and arrays. Null when there was no body or it was not kept: see `captured` in `context`."
    }


def _open(description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": True,
    }


def _body_facts(which: str) -> dict[str, Any]:
    return _open(
        f"Facts about the {which} body.",
        {
            "bytes": _integer("Size in bytes, whether kept or not.", minimum=0),
            "contentType": _string("Its Content-Type, at most 200 characters; absent when the headers have none."),
            "captured": {
                "description": "How much of it is in the record. `full`: all; `truncated`: the beginning, because it "
                "was over the limit or ended early; `omitted`: nothing, because of its type, or because redaction "
                "could not make sure that it has no secrets; `empty`: it had no bytes; `unread`: the application did "
                "not read it to its end; `undecodable`: its content encoding could not be decoded; `pressure`: "
                "nothing, because memory or journal space was short.",
                "enum": list(CAPTURED),
            },
        },
        ["bytes", "captured"],
    )


def json_schema() -> dict[str, Any]:
    """A new dict each time."""
    hex_digits = "^[0-9a-f]{%d}$"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Audit record",
        **_object(
            "One request and its response. One line of UTF-8 JSON. asgi-audit writes the keys in the order of this "
            "schema.",
            {
                "account_id": _string(
                    "Account (customer, tenant) of the record. A key sees only records of its accounts."
                ),
                "service": _string("Name of the service that handled the request.", minLength=1),
                "instance_id": _string("Instance of the service: what the account runs or rents of it.", minLength=1),
                "metadata": _object(
                    "Facts about the record itself.",
                    {
                        "id": _string("Unique id. asgi-audit makes a UUIDv7 of the record's timestamp.", minLength=1),
                        "requestId": _string("`X-Request-ID` of the request, or a new id."),
                        "version": _string("Version of this schema.", pattern="^1\\."),
                        "region": {"description": "Region of the service.", "enum": ["global", "eu"]},
                        "scope": {
                            "description": "Whether the request managed a service or used it.",
                            "enum": ["management", "service"],
                        },
                    },
                ),
                "request": _object(
                    "The request. Secrets are masked as `[REDACTED]`.",
                    {
                        "auth": _object(
                            "How the request was authenticated.",
                            {
                                "method": _string("Method, such as `bearer`; `none` when unknown."),
                                "publicKey": _string("Public part of the credential, or an empty string."),
                            },
                        ),
                        "method": _string("HTTP method as received."),
                        "path": _string(
                            "Path without the query, percent-decoded, relative to the mount of the application."
                        ),
                        "originalUrl": _string("Path and query as received, percent-encoded."),
                        "hostname": _string("Host of the request without the port; empty when the request has none."),
                        "headers": _strings("Headers by lower-case name; an array when one is repeated."),
                        "query": _strings("Query parameters by name; an array when one is repeated."),
                        "body": _body("Request body."),
                    },
                ),
                "response": _object(
                    "The response.",
                    {
                        "statusCode": _integer(
                            "HTTP status. 500 also when the application raised an exception before its response began, "
                            "499 when the client left before that.",
                            minimum=100,
                            maximum=999,
                        ),
                        "headers": _strings("Headers by lower-case name; an array when one is repeated."),
                        "body": _body("Response body."),
                    },
                ),
                "timestamp": _integer(
                    "When the request began: milliseconds since 1970-01-01T00:00:00Z.", minimum=0, maximum=TIME_END - 1
                ),
                "context": _context(hex_digits),
            },
            ["account_id", "service", "instance_id", "metadata", "request", "response", "timestamp"],
        ),
        "$defs": {
            "stringOrStrings": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 2}],
            }
        },
    }  # fmt: skip


def _context(hex_digits: str) -> dict[str, Any]:
    return _open(
        "More facts. An absent key is unknown or does not apply. Later versions may add keys.",
        {
            "durationNs": _integer(
                "Nanoseconds from the beginning of the request to the end of the response.", minimum=0
            ),
            "host": _string("Host name of the machine that served the request."),
            "principal": _string("The caller, such as a user."),
            "client": _string("Address of the client."),
            "route": _string("Route template, such as `/orders/{id}`, relative to the mount of the application."),
            "operation": _string(
                "Name of the operation: set by the application, or the name of the route or endpoint."
            ),
            "traceId": _string("Trace id of a valid `traceparent` header.", pattern=hex_digits % 32),
            "spanId": _string("Parent span id of a valid `traceparent` header.", pattern=hex_digits % 16),
            "protocol": _string("Protocol: `http/1.1`, `http/2` or `websocket`."),
            "outcome": {
                "description": "How the exchange ended. `failed`: the application raised an exception; `disconnected`: "
                "the client left; `cancelled`: the application's task was cancelled; `interrupted`: the process died.",
                "enum": list(OUTCOMES),
            },
            "error": _open(
                "The exception that the application raised.",
                {
                    "type": _string("Class name of the exception."),
                    "fatal": {
                        "type": "boolean",
                        "description": "True when the class does not derive from `Exception`; absent otherwise.",
                    },
                },
                ["type"],
            ),
            "requestBody": _body_facts("request"),
            "responseBody": _body_facts("response"),
            "org": _open(
                "Organisation of the caller.",
                {"id": _string("Id of the organisation."), "key": _string("Key of the organisation.")},
                [],
            ),
            "annotations": {"type": "object", "description": "Values that the application added, with secrets masked."},
            "redacted": {
                "type": "array",
                "description": "Paths of the fields in which secrets were masked or removed; at most 64.",
                "items": {"type": "string", "maxLength": 200},
                "maxItems": 64,
            },
            "truncated": {
                "type": "array",
                "description": "Fields, other than bodies, that were cut to fit into a record.",
                "items": {"type": "string"},
            },
            "level": {
                "description": "Set by the application or a rule. Absent: derived from status and outcome.",
                "enum": list(LEVELS),
            },
            "message": _string("Set by the application or a rule. Absent: derived from the record."),
            "capture": _open(
                "Identity of the record: the process that recorded it, and its number there.",
                {
                    "process": _string("UUID of the process that recorded the request.", format="uuid"),
                    "sequence": _integer(
                        "Number of the record in the process, from 1.", minimum=1, maximum=(1 << 63) - 1
                    ),
                    "salt": _string(
                        "128 random bits, so that a hash of the record cannot confirm a guess of its content.",
                        pattern=hex_digits % 32,
                    ),
                },
                ["process", "sequence"],
            ),
        },
        [],
    )
