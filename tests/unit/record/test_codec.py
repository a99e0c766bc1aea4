"""The codec: what it accepts, reorders and refuses; and the slices, with a dict as oracle."""

from __future__ import annotations

import gc
import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.errors import RecordError
from asgi_audit.record.codec import decode
from asgi_audit.record.line import TIME_END
from asgi_audit.record.slices import trail_slice, usage_slice

PROCESS = "019aaaaa-0000-7000-8000-000000000001"


def foreign(**changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "account_id": "acme",
        "service": "resolver",
        "instance_id": "i-1",
        "metadata": {"id": "m-1", "requestId": "r-1", "version": "1.0", "region": "eu", "scope": "service"},
        "request": {
            "auth": {"method": "none", "publicKey": ""},
            "method": "GET",
            "path": "/a",
            "originalUrl": "/a",
            "hostname": "h",
            "headers": {},
            "query": {},
            "body": None,
        },
        "response": {"statusCode": 200, "headers": {}, "body": None},
        "timestamp": 1_795_348_800_000,
    }
    record.update(changes)
    return record


def answers_match(data: bytes) -> None:
    d = decode(data)
    whole = json.loads(data)
    fields = ["account_id", "service", "instance_id", "metadata", "request", "response", "timestamp"]
    usage = {k: whole[k] for k in fields}
    assert list(json.loads(usage_slice(d.data, d.cuts)).items()) == list(usage.items())
    trail = {k: v for k, v in usage.items() if k not in ("service", "instance_id")}
    trail["metadata"] = {**whole["metadata"], "service": whole["service"]}
    assert list(json.loads(trail_slice(d.data, d.cuts)).items()) == list(trail.items())
    assert b"\n" not in d.data
    assert json.loads(d.data) == {k: whole[k] for k in [*fields, "context"] if k in whole}
    assert decode(d.data) == d


def test_decoded_record_adds_nothing_that_the_garbage_collector_walks() -> None:
    """A batch keeps thousands of decoded records: objects that the collector tracks would cost a full pass for each
    batch."""
    d = decode(make_builder().build(make_exchange()))
    parts = {name: getattr(d, name) for name in d.__struct_fields__}
    assert [name for name, part in {"record": d, **parts}.items() if gc.is_tracked(part)] == []


def test_record_of_ours_passes_through_untouched() -> None:
    record = make_builder().build(make_exchange("POST", body=b'{"a":1.50}'))
    for _ in range(3):  # the head is remembered after the first
        assert decode(record).data is record


@pytest.mark.parametrize("seed", range(20))
def test_foreign_order_and_spacing_are_put_right(seed: int) -> None:
    rng = random.Random(seed)
    record = foreign(context={"vendor": {"x": [1]}}, extra="gone")
    items = list(record.items())
    rng.shuffle(items)
    for key in ("metadata", "request", "response"):
        inner = list(record[key].items())
        rng.shuffle(inner)
        record[key] = dict(inner)
    text = json.dumps(
        {k: record[k] for k, _ in items}, indent=rng.choice([None, 1, 4]), ensure_ascii=rng.random() < 0.5
    )
    data = (" \r\n" + text.replace("\n", "\r\n") + "\n").encode()
    answers_match(data)
    assert json.loads(decode(data).data)["context"] == {"vendor": {"x": [1]}}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "extra", ['"account_id":"evil"', '"account_id":"acm3"', '"metadata":{}', '"x":{"a":1}', '"timestamp":1795348800001']
)
def test_second_field_never_makes_bytes_and_columns_disagree(extra: str, times: int) -> None:
    """A parser takes the last of two equal fields, a slice the first: one account would get another's record."""
    plain = orjson.dumps(foreign()).decode()
    decode(plain.encode())
    for at, glue in ((1, extra + ","), (len(plain) - 1, "," + extra)):
        data = (plain[:at] + glue + plain[at:]).encode()
        for _ in range(times):
            try:
                d = decode(data)
            except RecordError:
                continue
            for view in (usage_slice(d.data, d.cuts), trail_slice(d.data, d.cuts)):
                value = json.loads(view)
                assert value["account_id"] == d.account
                assert value["timestamp"] == d.timestamp
                assert value["metadata"]["id"] == d.id
                assert "x" not in value
                assert view.count(b'"account_id"') == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"null", "record"),
        (b"[]", "record"),
        (b"{}", "account_id"),
        (b"\xff", "JSON"),
        (orjson.dumps(foreign(account_id=5)), "account_id"),
        (orjson.dumps(foreign(timestamp="now")), "timestamp"),
        (orjson.dumps(foreign(timestamp=-1)), "timestamp"),
        (orjson.dumps(foreign(timestamp=TIME_END)), "timestamp"),
        (orjson.dumps(foreign(response={"statusCode": 99})), "statusCode"),
        (orjson.dumps(foreign(response={})), "statusCode"),
        (orjson.dumps(foreign(metadata={**foreign()["metadata"], "version": "2.0"})), "1.x"),
        (orjson.dumps(foreign(context={"capture": {"process": "no", "sequence": 1}})), "UUID"),
        (orjson.dumps(foreign(context={"capture": {"process": PROCESS, "sequence": 0}})), "counts from 1"),
        (orjson.dumps(foreign(context={"capture": {"process": PROCESS, "sequence": 1 << 63}})), "counts from 1"),
        (orjson.dumps(foreign(context={"durationNs": 1 << 63})), "durationNs"),
        (orjson.dumps(foreign(context={"durationNs": -1})), "durationNs"),
        (orjson.dumps(foreign(context=[])), "context"),
        (orjson.dumps(foreign()).replace(b'"acme"', b'"\\ud800"'), "JSON"),
        (orjson.dumps(foreign()).replace(b'"acme"', b'"\xff"'), "UTF-8"),
        (b'{"account_id":' + b"[" * 100_000, "record"),
        (b'{"x":' + b"[" * 100_000, "JSON"),
    ],
)
def test_bytes_that_are_no_record_say_why(data: bytes, says: str) -> None:
    with pytest.raises(RecordError, match=says):
        decode(data)


def test_level_of_a_foreign_producer_counts_only_when_it_is_one() -> None:
    assert decode(orjson.dumps(foreign(context={"level": "LOUD"}))).level == "INFO"
    assert decode(orjson.dumps(foreign(context={"level": "FATAL"}))).level == "FATAL"


FIRST = make_builder().build(make_exchange("POST", body=b'{"a":[1,"x"]}', principal="p", annotations={"k": 1}))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_record_or_a_record_error(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode(data)


@given(st.data())
def test_damaged_records_are_records_or_record_errors(data: Any) -> None:
    damaged = bytearray(FIRST)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        how = data.draw(st.integers(0, 3))
        if how == 0:
            damaged[at] = data.draw(st.integers(0, 255))
        elif how == 1:
            del damaged[at : at + data.draw(st.integers(1, 30))]
        elif how == 2:
            damaged[at:at] = data.draw(
                st.sampled_from([b" ", b"\n", b'"', b"{", b"}", b",", b'"account_id":"x",', b"\xff", b"\\"])
            )
        else:
            damaged[at:at] = damaged[max(0, at - 40) : at]
        if not damaged:
            return
    try:
        d = decode(bytes(damaged))
    except RecordError:
        return
    assert b"\n" not in d.data
    d.data.decode()
    for view in (usage_slice(d.data, d.cuts), trail_slice(d.data, d.cuts)):
        assert json.loads(view)["account_id"] == d.account
    assert decode(d.data).data is d.data


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)
tricky = st.sampled_from(
    [
        '","context":{',
        '},"request":{',
        ',"metadata":',
        '},"response":',
        ',"timestamp":1',
        '{"account_id":"x","service":"',
        "\\",
        '"',
        "\u2028",
    ]
)
texts = st.one_of(st.text(max_size=12), st.lists(tricky, max_size=3).map("".join))


@given(
    texts,
    texts,
    texts,
    texts,
    json_values,
    json_values,
    st.one_of(st.none(), st.dictionaries(texts, json_values, max_size=3)),
    st.booleans(),
)
def test_answers_equal_those_of_a_dict(
    account: str, service: str, instance: str, path: str, asked: Any, answered: Any, context: Any, compact: bool
) -> None:
    record = foreign(account_id=account, service=service, instance_id=instance)
    record["metadata"]["requestId"] = path
    record["request"]["path"] = path
    record["request"]["body"] = asked
    record["response"]["body"] = answered
    if context is not None:
        record["context"] = {"x" + k: v for k, v in context.items()}
    text = json.dumps(record, separators=(",", ":") if compact else (", ", ": "), ensure_ascii=not compact)
    answers_match(text.encode("utf-8", "surrogatepass") if compact else text.encode())


@given(texts, texts, texts, json_values)
def test_answers_of_our_records_equal_those_of_a_dict(path: str, principal: str, query: str, body: Any) -> None:
    x = make_exchange(
        "POST",
        "/" + path,
        query=query.encode("utf-8", "replace"),
        body=orjson.dumps(str(body)) + b" ",
        principal=principal,
        content_type=b"application/json",
    )
    record = make_builder().build(x)
    checked(record)
    answers_match(record)
