"""Derived values: level, message and operation."""

from __future__ import annotations

import pytest

from asgi_audit.record.derived import level_of, message_of, operation_of


@pytest.mark.parametrize(
    ("method", "status", "outcome", "error", "fatal", "level"),
    [
        ("GET", 200, "completed", "", False, "INFO"),
        ("HEAD", 200, "completed", "", False, "DEBUG"),
        ("OPTIONS", 204, "completed", "", False, "DEBUG"),
        ("OPTIONS", 404, "completed", "", False, "WARN"),
        ("GET", 401, "completed", "", False, "ERROR"),
        ("GET", 403, "completed", "", False, "ERROR"),
        ("GET", 422, "completed", "", False, "WARN"),
        ("GET", 500, "completed", "", False, "ERROR"),
        ("GET", 500, "failed", "ValueError", False, "ERROR"),
        ("GET", 200, "failed", "ValueError", False, "ERROR"),
        ("GET", 500, "failed", "SystemExit", True, "FATAL"),
        ("GET", 499, "cancelled", "CancelledError", True, "WARN"),
        ("GET", 499, "disconnected", "", False, "WARN"),
        ("GET", 200, "interrupted", "", False, "ERROR"),
    ],
)
def test_level_follows_outcome_then_status(
    method: str, status: int, outcome: str, error: str, fatal: bool, level: str
) -> None:
    assert level_of(method, status, outcome, error, fatal) == level


def test_message_leaves_out_what_is_unknown() -> None:
    assert message_of("POST", "/login", 401, "alice", 12_400_000, "ValueError") == (
        "POST /login → 401 Unauthorized, alice, 12 ms, ValueError"
    )
    assert message_of("GET", "/", 799, None, None, None) == "GET / → 799"


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(413, "Content Too Large"), (414, "URI Too Long"), (416, "Range Not Satisfiable"), (422, "Unprocessable Content")],
)
def test_phrase_is_the_same_on_every_python(status: int, phrase: str) -> None:
    assert message_of("GET", "/", status, None, None, None) == f"GET / → {status} {phrase}"


def test_operation_is_never_a_raw_path() -> None:
    assert operation_of("GET", "orders.read", "/orders") == "orders.read"
    assert operation_of("GET", None, "/orders/{id}") == "GET /orders/{id}"
    assert operation_of("GET", None, None) == "GET"
