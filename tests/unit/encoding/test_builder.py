"""The builder: wire order, identity, bounds; it never raises. Every record is validated."""

from __future__ import annotations

import re
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.exchanges import FACTS, PROCESS, make_body, make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.exchange.sealed import Exchange
from asgi_audit.record.codec import decode
from asgi_audit.record.slices import trail_slice, usage_slice
from asgi_audit.redaction.multisearch import searcher

BUILDER = make_builder()


def built(x: Exchange, shed: int = 0) -> dict[str, Any]:
    record = BUILDER.build(x, shed)
    decoded = decode(record)
    assert decoded.data is record  # our records pass unchanged: the wire order is right
    return checked(record)


def test_record_has_everything_in_the_wire_order() -> None:
    x = make_exchange(
        "POST",
        "/mnt/orders/1",
        root_path="/mnt",
        query=b"a=1&b=2&a=3",
        headers=[(b"x-a", b"1"), (b"x-a", b"2"), (b"traceparent", b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01")],
        body=b'{"x": 1.50}',
        content_type=b"application/json",
        answer=b"ok",
        answer_type=b"text/plain",
        principal="alice",
        route="/orders/{id}",
        endpoint="get_order",
        org_id="o",
        error_type="ValueError",
        error_fatal=True,
        outcome="failed",
        status=None,
        annotations={"k": [1]},
        level="WARN",
        message="hello",
        account_id="acme",
        instance_id="i-9",
        service="gateway",
        auth_method="key",
        auth_public_key="pk",
    )
    value = built(x)
    identity = uuid.UUID(value["metadata"].pop("id"))
    assert identity.version == 7
    assert identity.int >> 80 == 1_795_348_800_123
    assert re.fullmatch("[0-9a-f]{32}", value["context"]["capture"].pop("salt"))
    expected = {
        "account_id": "acme",
        "service": "gateway",
        "instance_id": "i-9",
        "metadata": {"requestId": "r-1", "version": "1.0", "region": "global", "scope": "service"},
        "request": {
            "auth": {"method": "key", "publicKey": "pk"},
            "method": "POST",
            "path": "/orders/1",
            "originalUrl": "/mnt/orders/1?a=1&b=2&a=3",
            "hostname": "shop.example",
            "headers": {
                "host": "shop.example:8000",
                "x-a": ["1", "2"],
                "traceparent": "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01",
                "content-type": "application/json",
            },
            "query": {"a": ["1", "3"], "b": "2"},
            "body": {"x": 1.5},
        },
        "response": {"statusCode": 500, "headers": {"content-type": "text/plain"}, "body": "ok"},
        "timestamp": 1_795_348_800_123,
        "context": {
            "durationNs": 12_345_678,
            "host": "host-1",
            "principal": "alice",
            "client": "192.0.2.1",
            "route": "/orders/{id}",
            "operation": "get_order",
            "traceId": "a1" * 16,
            "spanId": "b2" * 8,
            "protocol": "http/1.1",
            "outcome": "failed",
            "error": {"type": "ValueError", "fatal": True},
            "requestBody": {"bytes": 11, "contentType": "application/json", "captured": "full"},
            "responseBody": {"bytes": 2, "contentType": "text/plain", "captured": "full"},
            "org": {"id": "o", "key": ""},
            "annotations": {"k": [1]},
            "level": "WARN",
            "message": "hello",
            "capture": {"process": str(PROCESS), "sequence": 7},
        },
    }
    assert value == expected
    assert orjson.dumps(value) == orjson.dumps(expected)  # the order of the keys too


def test_defaults_stand_when_nothing_was_said() -> None:
    value = built(Exchange(sequence=1))
    assert (value["account_id"], value["service"], value["instance_id"]) == ("default", "app", "default")
    assert value["request"]["auth"] == {"method": "none", "publicKey": ""}
    assert value["request"]["hostname"] == ""
    assert value["response"]["statusCode"] == 500
    assert set(value["context"]) == {
        "durationNs",
        "host",
        "protocol",
        "outcome",
        "requestBody",
        "responseBody",
        "capture",
    }


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"a.example:80", "a.example"),
        (b"a.example", "a.example"),
        (b"[::1]:8000", "[::1]"),
        (b"[::1]", "[::1]"),
        (b"", ""),
        (b"u@h:1", "h"),
    ],
)
def test_hostname_has_no_port(host: bytes, name: str) -> None:
    x = make_exchange()
    x.request_headers = [(b"host", host)]
    assert built(x)["request"]["hostname"] == name


@pytest.mark.parametrize(
    ("root", "path", "inside"),
    [("", "/a", "/a"), ("/m", "/m/a", "/a"), ("/m", "/m", "/"), ("/m", "/mx", "/mx"), ("/m", "/a", "/a")],
)
def test_path_is_inside_the_mount(root: str, path: str, inside: str) -> None:
    value = built(make_exchange(path=path, root_path=root))
    assert value["request"]["path"] == inside
    assert value["request"]["originalUrl"] == path


@pytest.mark.parametrize("outcome", ["disconnected", "cancelled"])
def test_status_is_499_when_the_client_left_before_an_answer(outcome: str) -> None:
    assert built(make_exchange(status=None, outcome=outcome))["response"]["statusCode"] == 499


@pytest.mark.parametrize(
    "trace", [b"00-" + b"0" * 32 + b"-" + b"b2" * 8 + b"-01", b"ff-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01", b"x"]
)
def test_trace_is_left_out_when_traceparent_is_not_valid(trace: bytes) -> None:
    assert "traceId" not in built(make_exchange(headers=[(b"traceparent", trace)]))["context"]


def test_detail_and_pressure_leave_things_out() -> None:
    def x(request: str = "bodies", response: str = "bodies") -> Exchange:
        return make_exchange(
            "POST",
            query=b"q=1",
            body=b"{}",
            answer=b"[1]",
            headers=[(b"x-a", b"1")],
            answer_headers=[(b"x-b", b"2")],
            detail_request=request,
            detail_response=response,
        )

    def seen(value: dict[str, Any]) -> tuple[Any, ...]:
        return (
            len(value["request"]["headers"]),
            value["request"]["body"],
            value["context"]["requestBody"]["captured"],
            len(value["response"]["headers"]),
            value["response"]["body"],
            value["context"]["responseBody"]["captured"],
            len(value["request"]["query"]),
        )

    assert seen(built(x())) == (2, {}, "full", 1, [1], "full", 1)
    assert seen(built(x("headers", "metadata"))) == (2, None, "omitted", 0, None, "omitted", 1)
    assert seen(built(x("none", "bodies"))) == (0, None, "omitted", 1, [1], "full", 0)
    assert seen(built(x(), 1)) == (2, None, "pressure", 1, None, "pressure", 1)
    assert seen(built(x(), 2)) == (0, None, "pressure", 0, None, "pressure", 1)


def test_record_stays_below_a_mebibyte_whatever_is_long() -> None:
    huge = b"\x01" * 65_536
    x = make_exchange(
        "M" * 5000,
        "/é" * 50_000,
        query=b"&".join(b"k%d=%%01%%02" % i for i in range(20_000)),
        body=b'"' + b"\\n" * 32_000 + b'"',
        content_type=b"application/json",
        headers=[(b"x-%d" % i, b"\x01" * 1000) for i in range(400)],
        answer=b"\x1b" * 65_536,
        answer_type=b"text/plain",
        answer_headers=[(b"x-big", huge), (b"x-more", huge)],
        principal="p" * 99_999,
        route="\x01" * 99_999,
        message="\x01" * 99_999,
        http_version="9" * 5000,
        error_type="E" * 5000,
    )
    record = BUILDER.build(x)
    value = checked(record)
    assert len(record) < 1 << 20
    assert value["context"]["truncated"] == [
        "request.headers",
        "response.headers",
        "request.path",
        "request.originalUrl",
        "request.query",
    ]


def test_more_headers_than_the_bound_are_cut_and_said() -> None:
    value = built(make_exchange(headers=[(b"x-%d" % i, b"") for i in range(600)]))
    assert len(value["request"]["headers"]) == 500
    assert value["context"]["truncated"] == ["request.headers"]


@pytest.mark.parametrize(
    "fields",
    [
        {"principal": "\ud800x"},
        {"path": "/\udcff"},
        {"method": "G\x00T\n"},
        {"principal": 5},
        {"route": object()},
        {"annotations": {"a": {1, 2}}},
        {"annotations": {"\ud800": "\udfff"}},
        {"annotations": {"a": float("nan")}},
        {"annotations": {1: 2}},
        {"annotations": {"a": 1 << 80}},
        {"message": "\ud800"},
        {"status": 7},
        {"status": 70_000},
        {"started_ns": -5},
        {"started_ns": 1 << 90},
        {"duration_ns": -1},
        {"raw_path": b"/\xff\x00?x"},
        {"query_string": b"\xff=%ff&=&==&"},
        {"level": "LOUD"},
        {"outcome": "completed"},
        {"request_id": "\ud800"},
        {"http_version": "2"},
        {"type": "websocket"},
        {"request_headers": [(b"\xff\x00", b"\xff\n\x00"), (b"", b""), (b"Host", b"\xff:1")]},
    ],
)
def test_no_content_makes_it_raise(fields: dict[str, Any]) -> None:
    checked(BUILDER.build(make_exchange(**fields)))


class _Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("given", "stands"),
    [
        ([("Server", "a/1"), ("x-a", "caf\xe9 \u2603")], {"server": "a/1", "x-a": "caf\xe9 ?"}),
        ([(b"x-a", "1"), (b"x-b", b"2")], {"x-a": "1", "x-b": "2"}),
        ([("x-a", b"1"), (b"x-a", b"2")], {"x-a": ["1", "2"]}),
        ([(b"content-length", 5), (b"x-a", None)], {"content-length": "5", "x-a": "None"}),
        ([(bytearray(b"x-a"), memoryview(b"1")), (b"x-b", bytearray(b"2"))], {"x-a": "1", "x-b": "2"}),
        ([(b"x-a", _Odd()), (b"x-b", b"2")], {"x-a": "", "x-b": "2"}),
        ([(b"x-a", b"1", b"2"), None, 5, b"zz", [b"x-b", b"2"]], {"x-b": "2"}),
        ([("Authorization", "Bearer hunter2hunter"), (b"x-b", "hunter2hunter")],
         {"authorization": "[REDACTED]", "x-b": "[REDACTED]"}),
        ([(b"authorization", "Bearer hunter2hunter"), ("Set-Cookie", "sid=hunter2hunter")],
         {"authorization": "[REDACTED]", "set-cookie": "sid=[REDACTED]"}),
    ],
)  # fmt: skip
def test_headers_that_are_no_bytes_are_taken_as_latin_1(given: list[Any], stands: dict[str, Any]) -> None:
    """An application that sends invalid ASGI must not lose its record."""
    x = make_exchange()
    x.response_headers = given
    assert built(x)["response"]["headers"] == stands
    x = make_exchange()
    x.request_headers = given
    assert built(x)["request"]["headers"] == stands


headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=8)
anything = st.builds(
    lambda **k: make_exchange(**k),
    method=st.text(max_size=8),
    path=st.text(st.characters(), max_size=30),
    query=st.binary(max_size=60),
    headers=headers,
    body=st.binary(max_size=200),
    content_type=st.sampled_from(
        [
            None,
            b"application/json",
            b"text/html",
            b"text/csv",
            b"image/png",
            b"\xff",
            b"application/x-www-form-urlencoded",
            b"text/plain; charset=latin-1",
            b"multipart/form-data; boundary=x",
        ]
    ),
    answer=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda t: t.encode("utf-8", "replace"))),
    answer_headers=headers,
    raw_path=st.one_of(st.none(), st.binary(max_size=30)),
    principal=st.one_of(st.none(), st.text(st.characters(), max_size=9)),
    status=st.one_of(st.none(), st.integers(-5, 2000)),
    annotations=st.one_of(
        st.none(),
        st.dictionaries(
            st.text(st.characters(), max_size=5),
            st.one_of(st.text(st.characters(), max_size=5), st.floats(), st.integers()),
            max_size=3,
        ),
    ),
)


@given(anything, st.integers(0, 2), st.booleans(), st.integers(0, 200))
def test_any_exchange_becomes_a_valid_record(x: Exchange, shed: int, complete: bool, kept: int) -> None:
    x.request_body.complete = complete
    x.response_body = make_body(x.response_body.data(), kept=kept, complete=complete)
    record = BUILDER.build(x, shed)
    value = checked(record)
    decoded = decode(record)
    assert decoded.data is record
    usage = {k: v for k, v in value.items() if k != "context"}
    assert orjson.dumps(orjson.loads(usage_slice(record, decoded.cuts))) == orjson.dumps(usage)
    trail = {k: v for k, v in usage.items() if k not in ("service", "instance_id")}
    trail["metadata"] = {**value["metadata"], "service": value["service"]}
    assert orjson.dumps(orjson.loads(trail_slice(record, decoded.cuts))) == orjson.dumps(trail)


def test_injected_salt_and_ids_are_used() -> None:
    from asgi_audit.encoding.builder import Builder
    from asgi_audit.settings import make_settings

    fixed = Builder(make_settings({}), FACTS, ids=lambda ms: (f"id-{ms}", "0" * 32))
    x = make_exchange()
    assert fixed.build(x) == fixed.build(x)
    assert checked(fixed.build(x))["metadata"]["id"] == "id-1795348800123"


def test_route_that_raises_is_left_out() -> None:
    """The exchange keeps the framework's route object, whose attributes may be properties with any code."""

    class Route:
        @property
        def path(self) -> str:
            raise RuntimeError("not now")

    x = make_exchange()
    x.route = Route()  # type: ignore[assignment]
    assert "route" not in built(x)["context"]


@pytest.mark.parametrize("body", [b"x" * 900_000, b"\n" * 900_000, b'{"a":"' + b"y" * 900_000 + b'"}'])
def test_record_over_its_bound_is_cut_before_it_is_sealed_and_says_so(body: bytes) -> None:
    """A broker would refuse it permanently."""
    builder = make_builder(record_bytes_max=524_288, body_bytes_max=2_000_000)
    x = make_exchange("POST", body=body, answer=body, content_type=b"text/plain", annotations={"huge": "z" * 100_000})
    record = builder.build(x)
    assert len(record) <= 524_288
    context = checked(record)["context"]
    assert context["requestBody"]["captured"] == context["responseBody"]["captured"] == "truncated"
    assert context["requestBody"]["bytes"] == context["responseBody"]["bytes"] == len(body)
    assert context["annotations"] == {"huge": "z" * 100_000}


def test_annotations_go_last_when_a_record_is_over_its_bound() -> None:
    record = make_builder(record_bytes_max=524_288).build(make_exchange(annotations={"huge": "z" * 900_000}))
    assert len(record) <= 524_288
    assert checked(record)["context"]["annotations"] == {"cut": "the annotations were too large"}


def test_tables_of_names_are_made_once_when_many_builders_share_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test suite makes an application, and with it a builder, for each of its tests."""
    made: list[int] = []

    def counted(needles: list[bytes], *, rare: bool = False) -> Any:
        made.append(len(needles))
        return searcher(needles, rare=rare)

    monkeypatch.setattr("asgi_audit.redaction.needles.searcher", counted)
    make_builder(redact_names=("badge_of_this_test",))
    tables = len(made)
    make_builder(redact_names=("badge_of_this_test",))
    assert len(made) == tables > 0
    make_builder(redact_names=("another_badge_of_this_test",))
    assert len(made) == 2 * tables
