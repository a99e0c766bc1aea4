"""The JSON Schema (draft 2020-12) of a record of schema 1.0, for whoever produces or reads records.

Only `context` is open: it is ours and additive, and keys unknown to this version survive in it. Everything else has
exactly the documented fields. `context` and `context.capture` may be missing in records of foreign producers.
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
        + " JSON as it was sent, text and cut bodies as a string, a form as an object of strings and arrays; null when"
        " there was none or it is not kept (`context` says which)."
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
        f"What was seen of the {which} body.",
        {
            "bytes": _integer("Bytes that passed by, kept or not.", minimum=0),
            "contentType": _string("Its Content-Type, at most 200 characters; missing when the headers named none."),
            "captured": {
                "description": "`full`; `truncated` over the limit or broken off; `omitted` by policy, by its type, or"
                " because redaction could not prove it clean; `empty`; `unread` by the application to its end;"
                " `undecodable`; `pressure` when memory or the journal was short.",
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
            "One request and its response, as audited. One line of UTF-8 JSON; ours have their keys in the order of"
            " this schema.",
            {
                "account_id": _string("Account that the record belongs to: the isolation boundary of queries."),
                "service": _string("Service of the record.", minLength=1),
                "instance_id": _string("Instance of the service.", minLength=1),
                "metadata": _object(
                    "The record itself.",
                    {
                        "id": _string("Unique; ours are UUIDv7 of the record's timestamp.", minLength=1),
                        "requestId": _string("X-Request-ID of the request, or a new one."),
                        "version": _string("Schema version.", pattern="^1\\."),
                        "region": {"description": "Region of the service.", "enum": ["global", "eu"]},
                        "scope": {"description": "Scope of the request.", "enum": ["management", "service"]},
                    },
                ),
                "request": _object(
                    "The request. Secrets are masked as `[REDACTED]`.",
                    {
                        "auth": _object(
                            "How the request was authenticated.",
                            {
                                "method": _string("`none` when nobody said."),
                                "publicKey": _string("Public part of the credential, or empty."),
                            },
                        ),
                        "method": _string("The method as received."),
                        "path": _string("Path inside the application's mount, decoded, without the query."),
                        "originalUrl": _string("Path and query as received, percent-encoded."),
                        "hostname": _string("Host of the request without its port; empty when it named none."),
                        "headers": _strings("By lower-case name; arrays when repeated."),
                        "query": _strings("Parameters of the query; arrays when repeated."),
                        "body": _body("Request body."),
                    },
                ),
                "response": _object(
                    "The response.",
                    {
                        "statusCode": _integer(
                            "HTTP status; 500: the application raised before it answered, 499: the client left.",
                            minimum=100,
                            maximum=999,
                        ),
                        "headers": _strings("By lower-case name; arrays when repeated."),
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
        "Additive: a key that is missing is unknown or does not apply, and unknown keys survive.",
        {
            "durationNs": _integer("From the begin to the seal, nanoseconds.", minimum=0),
            "host": _string("Machine that served the request."),
            "principal": _string("Who asked."),
            "client": _string("Address of the peer."),
            "route": _string("Template of the route, without the mount."),
            "operation": _string("Name that was annotated, or of the route or endpoint."),
            "traceId": _string("From a valid `traceparent`.", pattern=hex_digits % 32),
            "spanId": _string("From a valid `traceparent`.", pattern=hex_digits % 16),
            "protocol": _string("`http/1.1`, `http/2`, `websocket`."),
            "outcome": {"description": "How the exchange ended.", "enum": list(OUTCOMES)},
            "error": _open(
                "What the application raised.",
                {
                    "type": _string("Name of the exception's class."),
                    "fatal": {"type": "boolean", "description": "It was no `Exception`. Only there when true."},
                },
                ["type"],
            ),
            "requestBody": _body_facts("request"),
            "responseBody": _body_facts("response"),
            "org": _open("Organisation.", {"id": _string("Its id."), "key": _string("Its key.")}, []),
            "annotations": {"type": "object", "description": "What the application said more, masked by name."},
            "redacted": {
                "type": "array",
                "description": "Paths of what was masked or left out as a secret, at most 64.",
                "items": {"type": "string", "maxLength": 200},
                "maxItems": 64,
            },
            "truncated": {
                "type": "array",
                "description": "Fields beside the bodies that were cut because they were longer than a record may be.",
                "items": {"type": "string"},
            },
            "level": {"description": "Only when set by the application or a rule; else derived.", "enum": list(LEVELS)},
            "message": _string("Only when set by the application or a rule; else derived."),
            "capture": _open(
                "Identity of the record from capture to cursor.",
                {
                    "process": _string("UUID of the capturing process.", format="uuid"),
                    "sequence": _integer("Counts from 1 in the process.", minimum=1, maximum=(1 << 63) - 1),
                    "salt": _string(
                        "128 random bits, so that the record's hash confirms no guess.", pattern=hex_digits % 32
                    ),
                },
                ["process", "sequence"],
            ),
        },
        [],
    )
