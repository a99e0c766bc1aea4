"""Wrong requests, by dialect, each with the status and the words of its refusal. A new dialect adds its own below;
`contract/test_bad_inputs.py` also makes wrong values for every parameter and field of every row of the table."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["BAD_DATES", "BAD_INPUTS", "BAD_NUMBERS", "BAD_TEXTS", "Bad"]


class Bad(NamedTuple):
    """`status`: of the failure, whatever the dialect sends. `says`: contained in the message. `target`: path and query
    as they are sent."""

    dialect: str
    method: str
    target: str
    content: bytes | None
    status: int
    says: str


BAD_DATES = (
    "now", "yesterday", "2024", "2024-01", "2024-13-01", "2024-00-10", "2024-02-30", "2023-02-29T00:00:00Z",
    "2024-01-01T00:00:00", "2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:61Z",
    "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+02:60", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00.0123456789Z",
    "20240101T000000Z", "2024-001", "2024-W01-1", "01/02/2024", "1704067200", "-2024-01-01T00:00:00Z", "0000-01-01",
    "12024-01-01T00:00:00Z", "２０２４-01-01", "2024-01-01T00:00:00Z\n", "2024-01-01T00:00:00Z;DROP TABLE", "\x00",
)  # fmt: skip
BAD_NUMBERS = (
    "-1", "+1", "1.0", "1.5", "1e3", "0x10", "1_0", "1,000", " 1", "1 ", "one", "NaN", "Infinity", "٣", "１", "²", "\x00",
    "9" * 10, "9" * 400, "--1", "1;2", "null", "true", "[]", "{}",
)  # fmt: skip
BAD_TEXTS = ("\x00", "a\nb", "\x1b[31m", "x" * 3_000, "\u202e" * 600)

_DAY = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}
_WINDOW = {"time_start": "2024-01-01T00:00:00Z", "time_end": "2024-01-02T00:00:00Z"}
_GROUP = {"region_group": "classic", **_WINDOW}


def _asked(dialect: str, path: str, *wrong: tuple[Any, int, str]) -> list[Bad]:
    """POSTs: (body as JSON or as bytes, status, words)."""
    return [
        Bad(dialect, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), status, says)
        for body, status, says in wrong
    ]


def _got(dialect: str, path: str, *wrong: tuple[str, int, str]) -> list[Bad]:
    """GETs: (the query, status, words)."""
    return [
        Bad(dialect, "GET", f"{path}?{query}" if query else path, None, status, says) for query, status, says in wrong
    ]


def _executions(dialect: str, path: str) -> list[Bad]:
    """Usage and trail."""
    deep = b'{"from":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    return [
        *_asked(
            dialect,
            path,
            (b"", 400, "body: it is not JSON"),
            (b" ", 400, "body: it is not JSON"),
            (b"{", 400, "body: it is not JSON"),
            (b"{}{}", 400, "body: it is not JSON"),
            (b"{'from':1}", 400, "body: it is not JSON"),
            (b"from=2024-01-01T00:00:00Z&to=2024-01-02T00:00:00Z", 400, "body: it is not JSON"),
            (b"\xff\xfe{\x00}\x00", 400, "body: it is not JSON"),
            (b'{"from":"\xc3\x28"}', 400, "body: it is not JSON"),
            (b'{"from":NaN}', 400, "body: it is not JSON"),
            (b'{"from":' + b"9" * 5_000 + b"}", 400, "body: it is not JSON"),
            (deep, 400, "body: it is not JSON"),
            (b"null", 400, "body: it is not a JSON object"),
            (b"[]", 400, "body: it is not a JSON object"),
            (b'"x"', 400, "body: it is not a JSON object"),
            (b"1e999", 400, "body: it is not a JSON object"),
            (b" " * 65_537, 413, "65536"),
            ({}, 400, "from: it is missing"),
            ({"from": _DAY["from"]}, 400, "to: it is missing"),
            ({"to": _DAY["to"]}, 400, "from: it is missing"),
            ({**_DAY, "from": None}, 400, "from: "),
            ({**_DAY, "to": _DAY["from"], "from": _DAY["to"]}, 400, "from: it is later than to"),
            ({**_DAY, "form": 1}, 400, "form: there is no such field; accepted: from, to, method, nextToken"),
            ({**_DAY, "status": 500}, 400, "status: there is no such field"),
            ({**_DAY, "From": 1}, 400, "From: there is no such field"),
            ({**_DAY, "": 1}, 400, '"\\"\\": there is no such field'),
            ({**_DAY, "\ud800": 1}, 400, "there is no such field"),
            ({**_DAY, "__proto__": {}}, 400, "__proto__: there is no such field"),
            ({**_DAY, "x" * 5_000: 1}, 400, "there is no such field"),
            (json.dumps(_DAY).encode()[:-1] + b',"to":"x"}', 400, "to: it is given more than once"),
            ({**_DAY, "method": "get"}, 400, "method: "),
            ({**_DAY, "method": "TRACE"}, 400, "method: "),
            ({**_DAY, "method": ""}, 400, "method: "),
            ({**_DAY, "method": ["GET"]}, 400, "method: it is an array"),
            ({**_DAY, "method": {"$ne": ""}}, 400, "method: it is an object"),
            ({**_DAY, "nextToken": 5}, 400, "nextToken: it is 5; accepted: a string"),
            ({**_DAY, "nextToken": ""}, 400, "nextToken: "),
            ({**_DAY, "nextToken": "x"}, 400, "nextToken: "),
            ({**_DAY, "nextToken": "A" * 4_097}, 400, "nextToken: "),
            ({**_DAY, "nextToken": "é"}, 400, "nextToken: "),
            ({**_DAY, "nextToken": "\ud800"}, 400, "nextToken: "),
        ),
        Bad(dialect, "POST", f"{path}?limit=1", json.dumps(_DAY).encode(), 400, "limit: there is no such parameter"),
        Bad(dialect, "POST", f"{path}?=", json.dumps(_DAY).encode(), 400, "there is no such parameter"),
        *_got(
            dialect,
            f"{path}/query-result/x",
            ("", 404, "queryExecutionId"),
            ("limit=0", 400, "limit: "),
            ("limit=1001", 400, "limit: "),
            ("limit=1&limit=1", 400, "limit: it is given more than once"),
            ("nextToken=x", 404, "queryExecutionId"),
            ("offset=1", 400, "offset: there is no such parameter; accepted: limit, nextToken"),
            ("limit[]=1", 400, "limit[]: there is no such parameter"),
            ("%00=1", 400, "there is no such parameter"),
            ("x" * 9_000, 400, "query string: it is longer than 8192 bytes"),
        ),
        *_got(dialect, f"{path}/query-result/{'A' * 4_097}", ("", 404, "queryExecutionId")),
        *_got(dialect, f"{path}/query-result/%00", ("", 404, "queryExecutionId")),
        *_got(dialect, f"{path}/query-result/%FF%FE", ("", 404, "queryExecutionId")),
        *_got(dialect, f"{path}/query-result/..%2F..%2Fetc%2Fpasswd", ("", 404, "queryExecutionId")),
        *_got(dialect, f"{path}/query-result/{'x' * 9_000}", ("", 404, "nothing at this path")),
        *_got(dialect, f"{path}/query-result/a/b", ("", 404, "nothing at this path")),
        *_got(dialect, f"{path}/query-result//", ("", 404, "nothing at this path")),
        Bad(dialect, "DELETE", f"{path}/query-result/x", None, 405, "DELETE is not allowed"),
        Bad(dialect, "PUT", path, b"{}", 405, "PUT is not allowed"),
        Bad(dialect, "GET", path, None, 405, "GET is not allowed"),
        Bad(dialect, "TRACE", path, None, 405, "TRACE is not allowed"),
        Bad(dialect, "X" * 30, path, None, 405, "is not allowed"),
    ]


def _of_any_body(dialect: str, path: str, good: dict[str, Any], name: str) -> list[Bad]:
    """Mistakes in any body; `name`: a field, here given twice."""
    sent = json.dumps(good)
    twice = sent[:-1] + ("," if good else "") + f'"{name}":1,"{name}":1}}'
    not_json = (
        b" ", b"{", b"}", b"nul", b"{}{}", b"{'a':1}", b'{"a":1,}', b"[1,]", b"NaN", b"-Infinity", b'{"a":NaN}', b"\x00",
        b'{"a":"\x00"}', b'{"a":"\n"}', b'{"a":01}', b'{"a":+1}', b'{"a":1.}', b'{"a":0x1}', b'{"a":"\\x"}', b'{"a":"\\u12"}',
        b'{"a":"\xff"}', b'{"a":"\xc0\x80"}', b'{"a":"\xed\xa0\x80"}', b"\xff\xfe{\x00}\x00", b"\xfe\xff\x00{\x00}",
        b"[" * 10_000, b'{"a":' * 10_000, b"[" * 10_000 + b"]" * 10_000, sent.encode("utf-16"), b'{"a":' + b"9" * 5_000 + b"}",
    )  # fmt: skip
    no_object = (b"null", b"true", b"[]", b"[{}]", b"0", b"-0", b"1e400", b"-1.5", b'""', b'"{}"')
    return _asked(
        dialect,
        path,
        *((body, 400, "body: it is not JSON in UTF-8") for body in not_json),
        *((body, 400, "body: it is not a JSON object") for body in no_object),
        (twice.encode(), 400, f"{name}: it is given more than once"),
        (b"\xef\xbb\xbf" + twice.encode(), 400, f"{name}: it is given more than once"),  # a BOM is accepted
        (b"{}" + b" " * 65_536, 413, "65536"),
    )


def _of_any_path(dialect: str, path: str, method: str, status: int, says: str) -> list[Bad]:
    """Invalid ids in all spellings; and unknown paths beside them."""
    ids = (
        "x", "%00", "%0d%0aa:%20b", "%2e", "%2e%2e", "%2e%2e%2fetc", "%252e", "a%2Fb", ";a=b", "a;b=c", "%", "%zz", "%u0041", "*",
        "'", "%22", "%EF%BB%BF", "%F0%9F%92%A9", "x" * 1_500, "x/", "~",
    )  # fmt: skip
    return [
        *(Bad(dialect, method, f"{path}/{id}", None, status, says) for id in ids),
        *(Bad(dialect, method, path + more, None, 404, "nothing at this path") for more in ("//x", "/x//", "/x/y/z/")),
    ]


def _of_any_method(dialect: str, path: str, allowed: tuple[str, ...]) -> list[Bad]:
    methods = (
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "X" * 30,
    )
    return [
        Bad(dialect, method, path + slash, None, 405, "is not allowed")
        for method in methods
        if method not in allowed
        for slash in ("", "/")
    ]


def _named(*wrong: tuple[str, str]) -> list[Bad]:
    """Usage: mistakes in the path."""
    body = json.dumps(_DAY).encode()
    return [Bad("usage", "POST", f"/usage/{path}", body, 400, says) for path, says in wrong]


def _commands(*wrong: tuple[Any, int, str]) -> list[Bad]:
    return _asked("tr50", "/api", *wrong)


def _list(params: Any) -> dict[str, Any]:
    return {"1": {"command": "usage.api.list", "params": params}}


BAD_INPUTS: list[Bad] = [
    *_executions("usage", "/usage/gateway/acme-eu"),
    *_executions("trail", "/trail"),
    *_named(
        ("g%20w/i", "service: "), ("g%2Fw/i", "service: "), ("g%00/i", "service: "), ("%C3%A9/i", "service: "),
        ("x" * 65 + "/i", "service: "), ("gw/%2E", "instanceResourceId: "), ("gw/%2E%2E", "instanceResourceId: "),
        ("gw/a%2Fb", "instanceResourceId: "), ("gw/%0A", "instanceResourceId: "), ("gw/%7F", "instanceResourceId: "),
        ("gw/%FF", "instanceResourceId: "), ("gw/" + "x" * 201, "instanceResourceId: "),
        ("gw/%ED%A0%80", "instanceResourceId: "),
    ),
    Bad("usage", "POST", "/usage/library/nowhere", json.dumps(_DAY).encode(), 404, "instanceResourceId"),
    *_got(
        "logs", "/logs",
        ("limit=0", 400, "limit: "), ("limit=1001", 400, "limit: "), ("offset=100001", 400, "offset: "),
        ("level=error", 400, "level: "), ("level=ERROR,WARN", 400, "level: "), ("level=ERROR&level=WARN", 400, "more than once"),
        ("search=%22", 400, "search: "), ("search=%20", 400, "search: "), ("search=" + "a" * 1_001, 400, "search: "),
        ("search=" + "%C3%A9" * 501, 400, "search: "), ("service=%00", 400, "service: "), ("service=%FF", 0, ""),
        ("startDate=2024-01-02&endDate=2024-01-01", 400, "startDate: it is later than endDate"),
        ("cursor=x", 400, "cursor: "), ("cursor=" + "A" * 4_097, 400, "cursor: "), ("cursor=x&offset=1", 400, "offset: "),
        ("Limit=1", 400, "Limit: there is no such parameter"), ("limit%20=1", 400, "there is no such parameter"),
        ("status=500", 400, "status: there is no such parameter"), ("sort=asc", 400, "sort: there is no such parameter"),
    ),
    Bad("logs", "POST", "/logs", b"{}", 405, "POST is not allowed"),
    *_got("logs", "/logs/a/b/c", ("", 404, "nothing at this path")),
    *_got(
        "records", "/records",
        ("limit=0", 400, "limit: "), ("order=up", 400, "order: "), ("count=1", 400, "count: "), ("failure=yes", 400, "failure: "),
        ("status=99", 400, "status: "), ("status=500-400", 400, "status: "), ("status=4xx,", 400, "status: "),
        ("method=get", 400, "method: "), ("outcome=ok", 400, "outcome: "), ("region=mars", 400, "region: "),
        ("since=1w", 400, "since: "), ("since=-1h", 400, "since: "), ("since=1h&start=2024-01-01", 400, "since: "),
        ("start=2024-01-02&end=2024-01-01", 400, "start: "), ("fields=nothing", 400, "fields: "), ("fields=,", 400, "fields: "),
        ("fields=" + "a" * 2_001, 400, "fields: "), ("path_prefix=orders", 400, "path_prefix: "), ("text=%22%22", 400, "text: "),
        ("cursor=x", 400, "cursor: "), ("offset=1", 400, "offset: there is no such parameter"), ("account=" + "a" * 201, 400, "account: "),
        ("principal=" + "a" * 501, 400, "principal: "), ("q=1", 400, "q: there is no such parameter"),
    ),
    *_got("records", "/records/nowhere", ("", 404, "no such record"), ("limit=1", 400, "limit: there is no such parameter")),
    *_got("records", f"/records/{'x' * 2_001}", ("", 400, "id: ")),
    Bad("records", "DELETE", "/records/x", None, 405, "DELETE is not allowed"),
    *_got(
        "records", "/histogram",
        ("", 400, "start: it is missing"), ("since=1h&by=day", 400, "by: "), ("since=1h&minutes=0", 400, "minutes: "),
        ("since=90d&minutes=1", 400, "minutes: "), ("since=1h&text=a", 400, "text: "),
    ),
    *_asked(
        "exports", "/api/v1/logs?type=query",
        (b"", 400, "body: it is not JSON"), ({}, 400, "time_start: it is missing"), (_WINDOW, 400, "region_group: it is missing"),
        ({**_GROUP, "time_end": "2024-09-01T00:00:00Z"}, 400, "time_end: it is too late"),
        ({**_GROUP, "time_end": "2023-01-01T00:00:00Z"}, 400, "time_start: it is later than time_end"),
        ({**_GROUP, "region_group": "mars"}, 400, "region_group: there is no region group"),
        ({**_GROUP, "regionGroup": "us-std"}, 400, "region_group: it differs from regionGroup"),
        ({**_WINDOW, "database": "classic"}, 400, "database: "), ({**_WINDOW, "database": "/"}, 400, "database: "),
        ({**_WINDOW, "database": "classic/a/b/c/d"}, 400, "database: "), ({**_WINDOW, "database": "classic/%FF"}, 400, "database: "),
        ({**_WINDOW, "database": "classic/another"}, 404, "database: "), ({**_WINDOW, "database": 5}, 400, "database: "),
        ({**_GROUP, "idempotency_token": "x"}, 400, "idempotency_token: "), ({**_GROUP, "idempotency_token": ""}, 400, "idempotency_token: "),
        ({**_GROUP, "format": "csv"}, 400, "format: there is no such field"), (b" " * 65_537, 413, "65536"),
    ),
    *_asked("exports", "/api/v1/logs", (_GROUP, 400, "type: it is missing")),
    *_asked("exports", "/api/v1/logs?type=all", (_GROUP, 400, "type: ")),
    *_asked("exports", "/api/v1/logs?type=query&type=query", (_GROUP, 400, "type: it is given more than once")),
    *_asked(
        "exports", "/api/v1/logs/_list?type=query",
        ({"states": ["Done"]}, 400, "states.0: "), ({"states": "Complete"}, 400, "states: "), ({"max_results": 0}, 400, "max_results: "),
        ({"max_results": 101}, 400, "max_results: "), ({"max_results": "5"}, 400, "max_results: "), ({"max_results": True}, 400, "max_results: "),
        ({"next_token": "x"}, 400, "next_token: "), ({"next_token": ""}, 400, "next_token: "), ({"limit": 5}, 400, "limit: there is no such field"),
    ),
    *_got("exports", "/api/v1/logs/nowhere", ("type=query", 404, "no such export"), ("type=all", 400, "type: ")),
    *_got("exports", f"/api/v1/logs/{'f' * 32}", ("", 404, "no such export")),
    *_got("exports", f"/exports/{'f' * 32}", ("", 403, "not of this API"), ("expires=1&key=a&nonce=b&signature=c", 403, "not of this API")),
    Bad("exports", "PUT", "/api/v1/logs", b"{}", 405, "PUT is not allowed"),
    *_of_any_body("exports", "/api/v1/logs?type=query", {**_GROUP, "time_start": "2024-01-01T00:00:00Z"}, "time_start"),
    *_of_any_body("exports", "/api/v1/logs/_list?type=query", {}, "max_results"),
    *_asked(
        "exports", "/api/v1/logs?type=query",
        *(({**_WINDOW, "database": f"classic/{part}"}, 400, "database: ") for part in (
            "", "%", "%4", "%zz", "%C3x", "%ED%A0%80", "\ud800", "x" * 201, "a//b",
        )),
        ({**_GROUP, "region_group": "\ud800"}, 400, "region_group: "), ({**_GROUP, "region_group": ""}, 400, "region_group: "),
        ({**_GROUP, "region_group": "CLASSIC"}, 400, "region_group: there is no region group"),
        ({**_GROUP, "time_end": "2024-01-01"}, 400, "time_end: "), ({**_GROUP, "time_end": 1704067200}, 400, "time_end: "),
        ({**_GROUP, "time_end": "0000-12-31T23:59:59Z"}, 400, "time_end: "), ({**_GROUP, "idempotency_token": None, "x": 1}, 400, "x: "),
        ({**_GROUP, "idempotency_token": "{3fa85f64-5717-4562-b3fc-2c963f66afa6}"}, 400, "idempotency_token: "),
        ({**_GROUP, "idempotency_token": "3fa85f6457174562b3fc2c963f66afa6"}, 400, "idempotency_token: "),
        ({**_GROUP, "idempotency_token": "3fa85f64-5717-4562-b3fc-2c963f66afa6\n"}, 400, "idempotency_token: "),
    ),
    *_asked(
        "exports", "/api/v1/logs/_list?type=query",
        ({"states": [["Complete"]]}, 400, "states.0: "), ({"states": [None]}, 400, "states.0: "), ({"states": ["complete"]}, 400, "states.0: "),
        ({"states": {"0": "Complete"}}, 400, "states: "), ({"max_results": 1.5}, 400, "max_results: "), ({"max_results": -0.5}, 400, "max_results: "),
        ({"max_results": 2**63}, 400, "max_results: "), ({"next_token": "\ud800"}, 400, "next_token: "), ({"next_token": "x" * 201}, 400, "next_token: "),
        (b'{"max_results":1e400}', 400, "max_results: "), ({"next_token": "\x00"}, 400, "next_token: "),
    ),
    *_got(
        "exports", "/api/v1/logs/nowhere",
        ("regionGroup=mars", 400, "regionGroup: there is no region group"), ("regionGroup=%FF", 400, "regionGroup: "),
        ("type=query&type=query", 400, "type: it is given more than once"), ("Type=query", 400, "Type: there is no such parameter"),
    ),
    *_of_any_path("exports", "/api/v1/logs", "GET", 404, "no such export"),
    *_of_any_path("exports", "/exports", "GET", 403, "not of this API"),
    *_of_any_method("exports", "/api/v1/logs", ("POST",)),
    *_of_any_method("exports", "/api/v1/logs/_list", ("POST", "GET", "HEAD")),
    *_of_any_method("exports", "/api/v1/logs/x", ("GET", "HEAD")),
    *_of_any_method("exports", "/exports/x", ("GET", "HEAD")),
    *_of_any_method("tr50", "/api", ("POST",)),
    *_of_any_method("logs", "/logs", ("GET", "HEAD")),
    *_of_any_method("records", "/records", ("GET", "HEAD")),
    *_of_any_method("records", "/feed", ("GET", "HEAD")),
    *_of_any_method("trail", "/trail/query-result/x", ("GET", "HEAD")),
    *_of_any_path("records", "/records", "GET", 404, "no such record"),
    *_of_any_path("trail", "/trail/query-result", "GET", 404, "queryExecutionId"),
    *_of_any_path("usage", "/usage/gateway/acme-eu/query-result", "GET", 404, "queryExecutionId"),
    *_commands(
        (b"", 400, "body: it is not JSON"), (b"[]", 400, "body: it is not a JSON object"), (b" " * 65_537, 413, "65536"),
        ({str(n): {"command": "diag.ping"} for n in range(21)}, 400, "20"), (_list({"limit": -1}), 400, "limit: "),
        (_list({"limit": 1.5}), 400, "limit: "), (_list({"limit": "10"}), 400, "limit: "), (_list({"offset": 100_001}), 400, "offset: "),
        (_list({"last": "1w"}), 400, "last: "), (_list({"last": "1h", "start": _DAY["from"]}), 400, "last: "),
        (_list({"start": "2024-01-01"}), 400, "start: "), (_list({"start": 5}), 400, "start: "), (_list({"command": "x"}), 400, "command: "),
        (_list({"hasFailure": "yes"}), 400, "hasFailure: "), (_list({"showAll": True}), 403, "showAll: "), (_list({"Limit": 1}), 400, "Limit: "),
        (_list({"x": 1}), 400, "x: there is no such parameter"), (_list([]), 400, "params: "), ({"1": {}}, 400, "command: "),
        ({"1": 5}, 400, ""), ({"1": {"command": "rm.rf"}}, 400, "command: there is no"), ({"1": {"command": 5}}, 400, "command: "),
        (b'{"1":{"command":"diag.ping"},"1":{"command":"diag.ping"}}', 400, "1: it is given more than once"),
        ({"1": {"command": "session.end", "params": {"id": "x"}}}, 404, "id: "), ({"1": {"command": "diag.ping", "sessionId": "x"}}, 401, "Authentication session is invalid: x"),
    ),
    Bad("tr50", "GET", "/api", None, 405, "GET is not allowed"),
    *_of_any_body("tr50", "/api", {"1": {"command": "diag.ping"}}, "1"),
    *_commands(
        *((_list({"start": date}), 400, "start: ") for date in BAD_DATES if date),
        *((_list({"last": last}), 400, "last: ") for last in (5, True, [], "-1h", "1", "h", " 1h", "1h ", "1 h", "١h", "1h\n", "\ud800", "1" * 201)),
        *((_list({name: wrong}), 400, f"{name}: ") for name in ("limit", "offset") for wrong in (-1, 0.5, True, "1", [], {}, 2**63)),
        *((_list({name: wrong}), 400, f"{name}: ") for name in ("hasFailure", "showAll") for wrong in (0, 1, "true", [], {})),
        *((_list({name: wrong}), 400, f"{name}: ") for name in ("who", "service", "command") for wrong in (5, True, [], {}, "\ud800", "x" * 4_097)),
        (b'{"1":{"command":"usage.api.list","params":{"limit":1e400}}}', 400, "limit: "),
        (b'{"1":{"command":"usage.api.list","params":{"limit":1,"limit":1}}}', 400, "limit: it is given more than once"),
        ({"1": {"command": "usage.api.list", "Command": "diag.ping"}}, 400, "command: it is given more than once"),
        ({"1": {"command": "\ud800"}}, 400, "command: there is no"), ({"1": {"command": "\x00"}}, 400, "command: there is no"),
        ({"1": {"command": "DIAG.PING"}}, 400, "command: there is no"), ({"1": {"command": ["diag.ping"]}}, 400, "command: "),
        ({"1": {"command": "diag.ping", "params": {"x": 1}}}, 400, "x: "), ({"1": {"command": "diag.ping", "params": "x"}}, 400, "params: "),
        ({"1": {"command": "session.end", "params": {"id": 5}}}, 400, "id: "), ({"1": {"command": "session.end", "params": {"id": "\ud800"}}}, 400, "id: "),
        ({"1": {"command": "diag.ping", "sessionId": 5}}, 400, "sessionId: "), ({"1": None}, 400, ""), ({"1": []}, 400, ""),
        ({"auth": {"sessionId": ""}}, 400, "body: it has no command"), ({"auth": None}, 400, "body: it has no command"), ({}, 400, "body: it has no command"),
        ({"auth": {"sessionId": "\x00"}, "1": {"command": "diag.ping"}}, 401, "Authentication session is invalid: "),
    ),
    Bad("tr50", "POST", "/api?x=1", b'{"1":{"command":"diag.ping"}}', 400, "x: there is no such parameter"),
    Bad("health", "POST", "/health/live", b"{}", 405, "POST is not allowed"),
    *_got("health", "/health/fresh", ("max_age=-1", 400, "max_age: "), ("maxage=1", 400, "maxage: there is no such parameter")),
]  # fmt: skip
