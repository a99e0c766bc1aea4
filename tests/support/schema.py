"""Validates records against the product's own schema."""

from __future__ import annotations

from typing import Any

import orjson
from jsonschema import Draft202012Validator

from asgi_audit.record.schema import json_schema

_validator = Draft202012Validator(json_schema())


def checked(record: bytes) -> dict[str, Any]:
    """The record as a dict. Asserts that it is one line of valid UTF-8 JSON of schema 1.0."""
    assert b"\n" not in record
    assert b"\r" not in record
    record.decode()
    value: dict[str, Any] = orjson.loads(record)
    problems = [f"{e.json_path}: {e.message[:200]}" for e in _validator.iter_errors(value)]
    assert not problems, problems
    return value
