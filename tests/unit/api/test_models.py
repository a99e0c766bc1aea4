"""Input of clients is accepted, or refused by name, with one sentence for every model; instants finer than a
millisecond keep their meaning."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, model_validator
from starlette.requests import Request

from asgi_audit.api import params
from asgi_audit.api.dialects.executions import PageOf, Start
from asgi_audit.api.fields import Flag, InstanceId, Instant, Level, Method, ServiceName, Statuses, digits, text, whole
from asgi_audit.api.instants import ms_of
from asgi_audit.api.models import Model, NoParameters, Refusal, read_body, read_parameters, read_path
from asgi_audit.api.schemas import Components
from asgi_audit.errors import QueryError
from asgi_audit.record.derived import LEVELS
from asgi_audit.record.line import TIME_END


def request(query: str = "", chunks: tuple[bytes, ...] = (b"",), **path: str) -> Request:
    messages = [{"type": "http.request", "body": c, "more_body": i + 1 < len(chunks)} for i, c in enumerate(chunks)]

    async def receive() -> Any:
        return messages.pop(0)

    scope = {"type": "http", "query_string": query.encode(), "headers": [], "path_params": path}
    return Request(scope, receive)


def body(model: type[Any], *chunks: bytes) -> Any:
    return asyncio.run(read_body(request(chunks=chunks), model))


def sent(model: type[Any], **fields: Any) -> Any:
    return body(model, json.dumps(fields).encode())


def window(start: Any, end: Any = "9999-12-31T23:59:59-23:59") -> tuple[int, int]:
    asked = sent(Start, **{"from": start, "to": end})
    return ms_of(asked.start), ms_of(asked.end)


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
        ("9999-12-31T23:59:59-12:00", TIME_END),
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
            sent(Start, **{name: wrong, other: "2024-01-01T00:00:00Z"})
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
    day = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}
    assert sent(Start, **day).method is None
    assert sent(Start, **day, method=None).method is None
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        assert sent(Start, **day, method=method).method == method
    for wrong in ("get", "TRACE", "", 5, ["GET"], {"a": 1}):
        with pytest.raises(QueryError, match=r"^method: .*accepted: GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS"):
            sent(Start, **day, method=wrong)


@pytest.mark.parametrize(
    ("query", "limit"), [("", 100), ("limit=", 100), ("limit=1", 1), ("limit=1000", 1000), ("limit=007", 7)]
)
def test_limit_is_read(query: str, limit: int) -> None:
    assert read_parameters(request(query), PageOf).limit == limit


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=%2B1", "limit=1.0", "limit=x", "limit=1&limit=1",
     "limit=" + "1" * 5000, "limit=%D9%A1", "limit=1_0", "limit=%201"],
)  # fmt: skip
def test_limit_is_refused_by_name_when_wrong(query: str) -> None:
    with pytest.raises(QueryError, match=r"^limit: "):
        read_parameters(request(query), PageOf)


class CatchAll(Model):
    model_config = ConfigDict(extra="ignore")

    a: Any = None


def test_body_is_read_when_object_in_chunks() -> None:
    assert body(CatchAll, b'{"a"', b': {"x": [1]}, "y": {"y"', b": [1]}}", b"").a == {"x": [1]}
    assert body(CatchAll, b" " * (params.BODY_BYTES_MAX - 2) + b"{}").a is None
    assert body(CatchAll, b"\xef\xbb\xbf{}").a is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "body: it is not JSON in UTF-8; accepted: a JSON object with from and to"),
        (b"{", "body: it is not JSON"),
        (b"\xff{}", "body: it is not JSON"),
        ("{}".encode("utf-16"), "body: it is not JSON"),
        (b'{"from": NaN}', "body: it is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "body: it is not JSON"),
        (b"[" * 60_000, "body: it is not JSON"),
        (b"null", "body: it is not a JSON object; accepted: a JSON object with from and to"),
        (b'"from"', "body: it is not a JSON object"),
        (b"[]", "body: it is not a JSON object"),
        (b'[["from", "x"]]', "body: it is not a JSON object"),
        (b'{"from": "a", "from": "a"}', "from: it is given more than once"),
        (b'{"from": {"b": 1, "b": 1}}', "b: it is given more than once"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "\\ud800: it is given more than once"),
        (b'{"form": 1}', "form: there is no such field; accepted: from, to, method, nextToken"),
        (b'{"from": [1], "FROM": 1}', "FROM: there is no such field"),
        (b'{"from": [1]}', "from: it is an array; accepted: an ISO 8601 date-time"),
        (b'{"from": {"a": 1}}', "from: it is an object; accepted: an ISO 8601 date-time"),
        (b"{}", "from: it is missing; accepted: an ISO 8601 date-time"),
    ],
)
def test_body_is_refused_when_no_object(data: bytes, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        body(Start, data)
    assert str(caught.value).startswith(message)


def test_body_is_too_large_when_longer_than_its_bound() -> None:
    with pytest.raises(QueryError) as caught:
        body(Start, b"x" * params.BODY_BYTES_MAX, b"x")
    assert caught.value.kind == "too_large"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_refusal_is_short_and_can_be_sent_when_value_is_anything(value: Any) -> None:
    with pytest.raises(QueryError) as caught:
        sent(Start, **{"from": value, "to": "x"})
    assert len(json.dumps(str(caught.value)).encode()) < 500


# -- fields of models


class Inner(Model):
    n: Annotated[int, whole(1, 9)]


class Whole(Model):
    """A field of each kind, every one with an alias."""

    one: Annotated[int, whole(1, 9)] = Field(1, alias="aOne")
    name: Annotated[str, text(1, 3)] = Field("x", alias="aName")
    plain: str = Field("", alias="aPlain")
    flag: bool = Field(False, alias="aFlag")
    word: Literal["p", "q"] = Field("p", alias="aWord")
    at: Instant | None = Field(None, alias="aAt")
    number: float = Field(0.0, alias="aNumber")
    inner: Inner | None = Field(None, alias="aInner")
    inners: list[Inner] = Field([], alias="aInners", fail_fast=True)
    by_name: dict[str, Inner] = Field({}, alias="aByName")

    @model_validator(mode="after")
    def _fit(self) -> Whole:
        if self.one == 9 and self.flag:
            raise Refusal("aOne: it cannot be 9 beside aFlag", hint="Leave one out.")
        return self


def test_value_is_taken_when_it_fits() -> None:
    taken = sent(Whole, aOne=5.0, aName="é", aFlag=True, aWord="q", aInner={"n": 3}, aInners=[{"n": 1}], aNumber=3)
    assert (taken.one, type(taken.one), taken.name, taken.flag, taken.word) == (5, int, "é", True, "q")
    assert (taken.inner, taken.inners, taken.number) == (Inner(n=3), [Inner(n=1)], 3.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"aOne": 0}, "aOne: it is 0; accepted: a whole number from 1 to 9"),
        ({"aOne": "5"}, 'aOne: it is "5"; accepted: a whole number'),
        ({"aOne": True}, "aOne: it is true; accepted: a whole number"),
        ({"aOne": 5.5}, "aOne: it is 5.5; accepted: a whole number"),
        ({"aOne": 1e308}, "aOne: it is 1e+308; accepted: a whole number"),
        ({"aOne": None}, "aOne: it is null; accepted: a whole number"),
        ({"aOne": 10**4000}, "aOne: it is 1000000"),
        ({"aName": ""}, 'aName: it is ""; accepted: 1 to 3 characters'),
        ({"aName": "\ud800"}, 'aName: it is "\\ud800"; accepted: 1 to 3 characters'),
        ({"aPlain": 5}, "aPlain: it is 5; accepted: a string"),
        ({"aFlag": "true"}, 'aFlag: it is "true"; accepted: true or false'),
        ({"aFlag": 1}, "aFlag: it is 1; accepted: true or false"),
        ({"aWord": "r"}, 'aWord: it is "r"; accepted: p, q'),
        ({"aAt": ""}, 'aAt: it is ""; accepted: an ISO 8601 date-time'),
        ({"aNumber": "1"}, 'aNumber: it is "1"; accepted: a number'),
        ({"aInner": []}, "aInner: it is an array; accepted: an object"),
        ({"aInner": {"n": 0}}, "aInner.n: it is 0; accepted: a whole number from 1 to 9"),
        ({"aInner": {}}, "aInner.n: it is missing; accepted: a whole number from 1 to 9"),
        ({"aInner": {"n": 1, "m": 1}}, "aInner.m: there is no such field; accepted: n"),
        ({"aInners": {}}, "aInners: it is an object; accepted: an array"),
        ({"aInners": [{"n": 1}, {"n": "x"}, 5]}, 'aInners.1.n: it is "x"; accepted: a whole number'),
        ({"aByName": {"k" * 100: {"n": 0}}}, f"aByName.{'k' * 60}.n: it is 0; accepted: a whole number"),
        ({"aOne": 9, "aFlag": True}, "aOne: it cannot be 9 beside aFlag"),
        ({"one": 1}, "one: there is no such field; accepted: aOne, aName, aPlain"),
        ({"z": 1, "aOne": 0}, "z: there is no such field"),  # the name first: it may be a misspelled filter
        ({"aName": "", "aOne": 0}, "aOne: "),
    ],
)
def test_value_is_refused_in_one_sentence_when_it_does_not_fit(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError) as caught:
        sent(Whole, **fields)
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) < 400
    assert caught.value.__cause__ is None


class Filters(Model):
    level: Level | None = None
    method: Method | None = None
    status: Statuses | None = None
    flag: Flag = False
    count: Annotated[int, digits(0, 5, hint="Take less.")] = 0


def test_parameters_are_taken_when_they_fit_and_absent_when_empty() -> None:
    taken = read_parameters(request("level=WARN&method=HEAD&status=404,5xx&flag=true&count=5"), Filters)
    assert (taken.level, taken.method, taken.status, taken.flag, taken.count) == (
        "WARN", "HEAD", ((404, 404), (500, 599)), True, 5,
    )  # fmt: skip
    assert read_parameters(request("level=&method=&status=&flag=&count="), Filters) == Filters()
    assert [read_parameters(request(f"level={level}"), Filters).level for level in LEVELS] == list(LEVELS)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("level=warn", 'level: it is "warn"; accepted: DEBUG, INFO, WARN, ERROR, FATAL'),
        ("status=99", "status: '99' selects no status; accepted: 404, 4xx and 400-499, from 100 to 999"),
        ("flag=1", 'flag: it is "1"; accepted: true or false'),
        ("count=6", 'count: it is "6"; accepted: a whole number from 0 to 5'),
        ("count=%2B5", 'count: it is "+5"; accepted: a whole number from 0 to 5'),
        ("x=", "x: there is no such parameter; accepted: level, method, status, flag, count"),
        ("level=&level=", "level: it is given more than once"),
        ("%ff=1", "\\ufffd: there is no such parameter"),
    ],
)
def test_parameter_is_refused_by_name_when_wrong(query: str, said: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_parameters(request(query), Filters)
    assert str(caught.value).startswith(said)
    assert caught.value.hint == ("Take less." if query == "count=6" else "")


def test_any_parameter_is_refused_when_none_is_taken() -> None:
    assert read_parameters(request(), NoParameters) == NoParameters()
    with pytest.raises(QueryError, match=r"^x: there is no such parameter; accepted: none$"):
        read_parameters(request("x=1"), NoParameters)


class Named(Model):
    service: ServiceName
    instance: InstanceId = Field(alias="instanceResourceId")


def test_names_in_the_path_are_read_by_our_names_and_refused_by_the_clients() -> None:
    assert read_path(request(service="gw-1", instance="a b?é"), Named).instance == "a b?é"
    for service, instance, said in (
        ("g w", "i", 'service: it is "g w"; accepted: 1 to 64 letters'),
        ("gw", "..", 'instanceResourceId: it is ".."; accepted: 1 to 200 characters'),
        ("gw\n", "i", "service: "),
        ("gw", "\udcff", "instanceResourceId: "),
    ):
        with pytest.raises(QueryError) as caught:
            read_path(request(service=service, instance=instance), Named)
        assert str(caught.value).startswith(said)


class Lenient(Model):
    absent = (None, "")

    one: Annotated[int, whole(0, 9)] = 5
    flag: bool = True
    at: Instant | None = None


def test_values_that_count_as_absent_are_those_of_the_model_and_stand_in_its_schema() -> None:
    assert sent(Lenient, one=None, flag="", at="") == Lenient()
    assert sent(Lenient, one=0, flag=False) == Lenient(one=0, flag=False)
    components = Components()
    components.reference("x", Lenient, is_sent=False)
    fields = components.schemas["x.Lenient"]["properties"]
    assert fields["one"] == {
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"enum": [None, ""]}], "default": 5,
    }  # fmt: skip
    assert "x-absent" not in components.schemas["x.Lenient"]


def test_parameter_without_a_name_is_refused_by_it() -> None:
    with pytest.raises(QueryError, match=r'^"": there is no such parameter'):
        read_parameters(request("=1"), Filters)


def test_schema_of_a_field_is_beside_its_check() -> None:
    schema = Filters.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["count"] == {
        "default": 0, "maximum": 5, "minimum": 0, "title": "Count", "type": "integer",
    }  # fmt: skip
    assert schema["properties"]["level"]["anyOf"][0] == {"type": "string", "enum": list(LEVELS)}
    assert set(Named.model_json_schema()["properties"]) == {"service", "instanceResourceId"}
