"""What a client sends is taken or refused by name; instants keep their meaning when they are finer than a
millisecond."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from asgi_audit.api import params
from asgi_audit.errors import QueryError


def window(start: Any, end: Any = "9999-12-31T23:59:59-23:59") -> tuple[int, int]:
    return params.window_of({"from": start, "to": end})


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-01-01T00:00:00Z", 1_704_067_200_000),
        ("2024-01-01t00:00:00z", 1_704_067_200_000),
        ("2024-01-01T00:00Z", 1_704_067_200_000),
        ("2024-01-01T02:00:00+02:00", 1_704_067_200_000),
        ("2024-01-01T02:00:00+0200", 1_704_067_200_000),
        ("2023-12-31T18:30:00-05:30", 1_704_067_200_000),
        ("2024-01-01T00:00:00.5Z", 1_704_067_200_500),
        ("2024-01-01T00:00:00,123Z", 1_704_067_200_123),
        ("2024-01-01T00:00:00.1230001Z", 1_704_067_200_124),  # rounded up
        ("2024-01-01T00:00:00.000000001Z", 1_704_067_200_001),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),  # a leap second
        ("0001-01-01T00:00:00+14:00", 0),
        ("1969-12-31T23:59:59.999Z", 0),
        ("9999-12-31T23:59:59-12:00", 1 << 43),
    ],
)
def test_instant_is_read_when_iso_8601_with_offset(text: str, ms: int) -> None:
    assert window(text)[0] == ms


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        5,
        True,
        [],
        {},
        "",
        "now",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+02:60",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:59:61Z",
        "2024-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00.1234567890Z",
        "2024-01-01T00:00:00Z\n",
        "２０２４-01-01T00:00:00Z",
        "12024-01-01T00:00:00Z",
        "\ud800",
    ],
)
def test_instant_is_refused_by_name_when_wrong(wrong: Any) -> None:
    for name, other in [("from", "to"), ("to", "from")]:
        with pytest.raises(QueryError, match=f"^{name}: ") as caught:
            params.window_of({name: wrong, other: "2024-01-01T00:00:00Z"})
        assert caught.value.field == name
        str(caught.value).encode()  # can be sent


@given(
    ms=st.integers(0, 10_000),
    start_ns=st.integers(0, 10_000_000_000),
    end_ns=st.integers(0, 10_000_000_000),
)
def test_window_holds_a_millisecond_exactly_when_the_instants_do(ms: int, start_ns: int, end_ns: int) -> None:
    def text(ns: int) -> str:
        return f"1970-01-01T00:00:{ns // 10**9:02d}.{ns % 10**9:09d}Z"

    if start_ns > end_ns:
        with pytest.raises(QueryError, match=r"^from: it is later than to"):
            window(text(start_ns), text(end_ns))
        return
    start, end = window(text(start_ns), text(end_ns))
    assert (start <= ms < end) == (start_ns <= ms * 1_000_000 < end_ns)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_instant_agrees_with_datetime(naive: datetime, offset: int) -> None:
    at = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert window(at.isoformat())[0] == -((datetime(1970, 1, 1, tzinfo=UTC) - at) // timedelta(milliseconds=1))


def test_method_is_one_of_seven_or_refused() -> None:
    assert params.method_of({}) is None
    assert params.method_of({"method": None}) is None
    assert [params.method_of({"method": m}) for m in params.METHODS] == list(params.METHODS)
    for wrong in ("get", "TRACE", "", 5, ["GET"], {"a": 1}):
        with pytest.raises(QueryError, match=r"^method: .*accepted: GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS"):
            params.method_of({"method": wrong})


def request(query: str = "", chunks: tuple[bytes, ...] = (b"",)) -> Request:
    messages = [{"type": "http.request", "body": c, "more_body": i + 1 < len(chunks)} for i, c in enumerate(chunks)]

    async def receive() -> Any:
        return messages.pop(0)

    return Request({"type": "http", "query_string": query.encode(), "headers": []}, receive)


@pytest.mark.parametrize(("query", "limit"), [("", 100), ("limit=1", 1), ("limit=1000", 1000), ("limit=007", 7)])
def test_limit_is_read(query: str, limit: int) -> None:
    assert params.limit_of(request(query)) == limit


@pytest.mark.parametrize(
    "query",
    ["limit=", "limit=0", "limit=1001", "limit=-1", "limit=%2B1", "limit=1.0", "limit=x", "limit=1&limit=1",
     "limit=" + "1" * 5000, "limit=%D9%A1", "limit=1_0", "limit=%201"],
)  # fmt: skip
def test_limit_is_refused_by_name_when_wrong(query: str) -> None:
    with pytest.raises(QueryError, match=r"^limit: "):
        params.limit_of(request(query))


def body(*chunks: bytes) -> dict[str, Any]:
    return asyncio.run(params.json_object(request(chunks=chunks)))


def test_body_is_read_when_object_in_chunks_with_unknown_fields() -> None:
    assert body(b'{"from"', b': "a", "x": {"y"', b": [1]}}", b"") == {"from": "a", "x": [("y", [1])]}
    assert body(b" " * (params.BODY_BYTES_MAX - 2) + b"{}") == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "body: it is no JSON"),
        (b"{", "body: it is no JSON"),
        (b"\xff{}", "body: it is no JSON"),
        ("{}".encode("utf-16"), "body: it is no JSON"),
        (b'{"from": NaN}', "body: it is no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "body: it is no JSON"),
        (b"[" * 60_000, "body: it is no JSON"),
        (b"null", "body: it is no JSON object"),
        (b'"from"', "body: it is no JSON object"),
        (b"[]", "body: it is no JSON object"),
        (b'[["from", "x"]]', "body: it is no JSON object"),
        (b'{"from": "a", "from": "a"}', "from: it is given more than once"),
    ],
)
def test_body_is_refused_when_no_object(data: bytes, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        body(data)
    assert str(caught.value).startswith(message)


def test_body_is_too_large_when_longer_than_its_bound() -> None:
    with pytest.raises(QueryError) as caught:
        body(b"x" * params.BODY_BYTES_MAX, b"x")
    assert caught.value.kind == "too_large"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_refusal_is_short_and_can_be_sent_when_value_is_anything(value: Any) -> None:
    with pytest.raises(QueryError) as caught:
        params.window_of({"from": value, "to": "x"})
    assert len(json.dumps(str(caught.value)).encode()) < 500
