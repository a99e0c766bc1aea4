"""Log lines as JSON objects: their fields, and what they never contain."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from asgi_audit.cli.logs import JsonFormatter
from asgi_audit.wiring.environment import log_format


def line(message: str, *values: object, **given: Any) -> dict[str, Any]:
    fields = given.pop("fields", None)
    record = logging.LogRecord("asgi_audit.index", logging.WARNING, "f.py", 1, message, values, given.get("exc_info"))
    record.created = 1795348800.5
    if fields is not None:
        record.fields = fields
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_line_holds_time_level_logger_message_and_fields() -> None:
    assert line("%d records\nindexed: é", 5, fields={"indexed": 5, "lag": None}) == {
        "time": "2026-11-22T12:00:00.500Z",
        "level": "WARNING",
        "logger": "asgi_audit.index",
        "message": "5 records\nindexed: é",
        "indexed": 5,
        "lag": None,
    }


def test_fields_never_take_the_place_of_our_own() -> None:
    assert line("true", fields={"message": "false", "level": 1, "object": object}) | {"object": ""} == {
        **line("true"),
        "object": "",
    }


def test_exception_is_told_by_type_and_place_and_never_by_its_text() -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        found = line("it failed", exc_info=sys.exc_info())
    assert found["error"] == "ValueError"
    assert found["where"][0].startswith("test_logs.py:")
    assert "hunter2" not in json.dumps(found)


@pytest.mark.parametrize(
    ("flag", "environment", "format"),
    [
        (None, None, "text"),
        (None, "json", "json"),
        ("text", "json", "text"),
        ("json", None, "json"),
        ("xml", None, "text"),
    ],
)
def test_format_is_the_flags_then_the_environments_whatever_else_is_wrong(
    flag: str | None, environment: str | None, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_AUDIT_PORT", "many")
    if environment is not None:
        monkeypatch.setenv("ASGI_AUDIT_LOG_FORMAT", environment)
    assert log_format(flag) == format
