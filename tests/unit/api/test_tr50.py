"""`POST /api`: the documents' own requests and responses, and the envelopes that real clients send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from pydantic import TypeAdapter
from tests.support.api import DAY_MS, Api
from tests.support.records import foreign
from tests.support.waiting import until

from asgi_audit.api.dialects.tr50.errors import Error
from asgi_audit.api.dialects.tr50.results import Answered

DOCUMENTED = {
    "definite": {
        "offset": 0,
        "limit": 10,
        "showAll": False,
        "start": "2014-01-01T00:00:00Z",
        "end": "2014-01-31T23:59:59Z",
        "hasFailure": False,
    },
    "last": {"offset": 0, "limit": 10, "showAll": False, "last": "10h", "hasFailure": False},
}
AS_SHOWN: TypeAdapter[Error | Answered] = TypeAdapter(Error | Answered)  # type: ignore[arg-type]
INVALID = "Authentication session is invalid: "


class Tr50(Api):
    """A client with an auditor key of acme, which is not sent in a header."""

    def __init__(self, directory: Path, **given: Any) -> None:
        super().__init__(directory, **given)
        self.auditor_id, self.auditor = self.control.create_key("auditor", ["acme"])

    def post(self, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def run() -> httpx.Response:
            async with self.client() as client:
                return await client.post("/api", content=content, headers=headers)

        return asyncio.run(run())

    def call(self, body: Any, headers: dict[str, str] | None = None) -> Any:
        """Returns the body of a response with status 200."""
        answer = self.post(body, headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        if "\\ud800" not in answer.text:  # pydantic does not parse this
            AS_SHOWN.validate_json(answer.content)
        return answer.json()

    def session(self) -> str:
        login = {"command": "api.authenticate", "params": {"username": "a@example.com", "password": self.auditor}}
        answer = self.call({"auth": login})
        assert answer["auth"]["success"] is True
        assert answer["auth"]["params"].keys() == {"orgKey", "sessionId"}
        assert answer["auth"]["params"]["orgKey"] == "acme"
        text: str = answer["auth"]["params"]["sessionId"]
        return text

    def listed(self, params: Any = None, key: str = "") -> Any:
        """The result of the only requested list, with a key in a header."""
        body = {"list": {"command": "usage.api.list", "params": params or {}}}
        return self.call(body, {"X-API-Key": key or self.auditor})["list"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Tr50]:
    made = Tr50(tmp_path)
    yield made
    made.close()


def names(listed: Any) -> list[str]:
    """Names of the records, in the order of the results."""
    assert listed["success"] is True, listed
    return [json.loads(item["request"])["path"][1:] for item in listed["params"]["result"] or []]


def seed(api: Api, count: int, **given: Any) -> None:
    api.add(*(foreign(DAY_MS + n, name=f"r{n}", path=f"/r{n}", **given) for n in range(count)))


def is_root_failure(answer: Any, code: int) -> str:
    assert answer.keys() == {"success", "errorCodes", "errorMessages"}
    assert answer["success"] is False
    assert answer["errorCodes"] == [code]
    [message] = answer["errorMessages"]
    return str(message)


# -- the documents


@pytest.mark.parametrize("params", DOCUMENTED.values(), ids=list(DOCUMENTED))
def test_documented_request_is_answered_as_documented(api: Tr50, params: dict[str, Any]) -> None:
    seed(api, 3)
    session = api.session()
    body = {"auth": {"sessionId": session}, "list": {"command": "usage.api.list", "params": params}}
    assert api.call(body) == {"list": {"success": True, "params": {"count": 0, "result": None}}}


def test_documented_answer_has_its_fields_in_its_types(api: Tr50) -> None:
    api.add(
        foreign(
            DAY_MS + 5, name="a", path="/orders", principal="mira@example.com", host="ip-10-200-40-161",
            durationNs=1_234_567, org={"id": "o-1", "key": "ACME"}, body={"n": 1},
        )
    )  # fmt: skip
    listed = api.listed()
    assert listed["params"]["count"] == 1
    [item] = listed["params"]["result"]
    request, response = json.loads(item.pop("request")), json.loads(item.pop("response"))
    assert item == {
        "ts": "2024-01-01T00:00:00.005+00:00",
        "execTime": 1_234_567,
        "processedBy": "ip-10-200-40-161",
        "orgId": "o-1",
        "orgKey": "ACME",
        "whoami": "mira@example.com",
    }
    assert (request["method"], request["path"], request["body"]) == ("GET", "/orders", {"n": 1})
    assert response == {"statusCode": 200, "headers": {}, "body": {"ok": True}}


def test_organisation_falls_back_to_the_account_and_unknown_texts_are_empty(api: Tr50) -> None:
    api.add(foreign(DAY_MS, name="a", org={"id": 7, "key": ""}))
    [item] = api.listed()["params"]["result"]
    assert (item["orgId"], item["orgKey"], item["whoami"], item["processedBy"]) == ("acme", "acme", "", "")


# -- envelopes


def test_envelope_is_read_however_its_names_are_spelled(api: Tr50) -> None:
    seed(api, 1)
    session = api.session()
    for body in (
        {"1": {"Command": "usage.api.list", "SessionId": session, "Params": {"limit": 1}}},
        {"1": {"COMMAND": "usage.api.list", "sessionid": session, "params": None}},
        {"Auth": {"SessionID": session}, "1": {"command": "usage.api.list", "Params": {}}},
        {"SessionId": session, "1": {"command": "usage.api.list"}},
        {"sessionId": "", "auth": {"sessionId": session}, "1": {"Command": "usage.api.list", "SessionId": ""}},
        {"auth": None, "sessionId": session, "1": {"command": "usage.api.list", "sessionId": None, "params": ""}},
    ):
        assert api.call(body)["1"]["params"]["count"] == 1


def test_session_stands_in_a_header_too_and_so_does_a_key(api: Tr50) -> None:
    body = {"cmd": {"command": "session.info"}}
    session = api.session()
    for headers in (
        {"sessionId": session},
        {"SESSIONID": session},
        {"Authorization": f"Bearer {api.auditor}"},
        {"X-API-Key": api.auditor, "sessionId": ""},
    ):
        assert api.call(body, headers)["cmd"]["success"] is True


def test_nearest_session_decides(api: Tr50) -> None:
    good, bad = api.session(), "b" * 22
    ping = {"command": "diag.ping"}
    is_good = (
        ({"auth": {"sessionId": bad}, "1": {**ping, "sessionId": good}}, {}),
        ({"sessionId": bad, "auth": {"sessionId": good}, "1": ping}, {}),
        ({"sessionId": good, "1": ping}, {"sessionId": bad}),
        ({"1": ping}, {"sessionId": good, "X-API-Key": "aa_0_0"}),
    )
    for body, headers in is_good:
        assert api.call(body, headers) == {"1": {"success": True}}
    for body, headers in (
        ({"auth": {"sessionId": good}, "1": {**ping, "sessionId": bad}}, {}),
        ({"sessionId": good, "auth": {"sessionId": bad}, "1": ping}, {}),
        ({"sessionId": bad, "1": ping}, {"sessionId": good}),
        ({"1": ping}, {"sessionId": bad, "X-API-Key": api.auditor}),
    ):
        assert is_root_failure(api.call(body, headers), -90_000) == f"{INVALID}{bad}"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_content_type_does_not_matter(api: Tr50, content_type: str) -> None:
    body = b'\r\n{"auth":{"sessionId":"' + api.session().encode() + b'"},"1":{"command":"diag.ping"}}\r\n'
    headers = {"content-type": content_type} if content_type else {}
    assert api.call(body, headers) == {"1": {"success": True}}


def test_ids_come_back_as_they_were_sent(api: Tr50) -> None:
    ids = ["1", "cmd", "data", "AUTHOR", "", " ", "ü→", 'a"b\\c\n', "__proto__", "success", "\ud800", "x" * 5_000]
    body = {id: {"command": "diag.ping"} for id in ids}
    answer = api.call(body, {"X-API-Key": api.auditor})
    assert list(answer.items()) == [(id, {"success": True}) for id in ids]


def test_commands_beyond_twenty_and_ids_given_twice_are_refused_as_a_whole(api: Tr50) -> None:
    headers = {"X-API-Key": api.auditor}
    many = {str(n): {"command": "diag.ping"} for n in range(21)}
    assert "21 commands" in is_root_failure(api.call(many, headers), -22)
    del many["20"]
    assert len(api.call(many, headers)) == 20
    twice = b'{"1":{"command":"diag.ping"},"1":{"command":"diag.ping"}}'
    assert is_root_failure(api.call(twice, headers), -22).startswith("1: it is given more than once")
    session = api.session()
    spelled_twice: tuple[Any, ...] = (
        {"auth": {"sessionId": session}, "Auth": {"sessionId": session}, "1": {"command": "diag.ping"}},
        {"sessionId": session, "SessionId": "", "1": {"command": "diag.ping"}},
    )
    for body in spelled_twice:
        assert "more than once" in is_root_failure(api.call(body), -22)
    for body in ({}, {"auth": {"sessionId": session}}):
        assert "no command" in is_root_failure(api.call(body, headers), -22)


def test_command_that_is_wrong_fails_alone(api: Tr50) -> None:
    good = {"command": "diag.ping"}
    wrong: dict[str, Any] = {
        "text": "diag.ping", "null": None, "list": [], "empty": {}, "number": {"command": 1}, "blank": {"command": ""},
        "unknown": {"command": "thing.find"}, "case": {"command": "Diag.Ping"}, "params": {"command": "diag.ping",
        "params": []}, "session": {"command": "diag.ping", "sessionId": 5}, "twice": {"command": "diag.ping",
        "Command": "session.info"}, "name": {"command": "diag.ping", "params": {"x": 1}},
    }  # fmt: skip
    answer = api.call({"first": good, **wrong, "last": good}, {"X-API-Key": api.auditor})
    assert list(answer) == ["first", *wrong, "last"]
    assert answer.pop("first") == answer.pop("last") == {"success": True}
    for id, failed in answer.items():
        assert is_root_failure(failed, -22), id
    assert "usage.api.list" in answer["unknown"]["errorMessages"][0]  # what exists


# -- sessions


@pytest.mark.parametrize("form", ["user", "application", "another id"])
def test_login_is_answered_under_its_id_and_used_by_the_other_commands(api: Tr50, form: str) -> None:
    seed(api, 2)
    params = {"username": "a@example.com", "password": api.auditor}
    if form == "application":
        params = {"appId": "a", "appToken": api.auditor, "thingKey": "t"}
    id = "log me in" if form == "another id" else "auth"
    body = {"list": {"command": "usage.api.list"}, id: {"command": "api.authenticate", "params": params}}
    answer = api.call(body)
    assert list(answer) == ["list", id]
    assert answer["list"]["params"]["count"] == 2
    session = answer[id]["params"]["sessionId"]
    assert api.call({"auth": {"sessionId": session}, "1": {"command": "diag.ping"}}) == {"1": {"success": True}}


def test_login_that_fails_is_said_at_the_root_or_beside_what_succeeds(api: Tr50) -> None:
    login = {"command": "api.authenticate", "params": {"username": "a", "password": "aa_0_0"}}
    for body in ({"auth": login}, {"auth": login, "1": {"command": "diag.ping"}}):
        assert is_root_failure(api.call(body), -90_008)
    session = api.session()
    answer = api.call({"auth": login, "1": {"command": "diag.ping", "sessionId": session}})
    assert answer["1"] == {"success": True}
    assert is_root_failure(answer["auth"], -90_008)
    for params in (
        {},
        {"username": "a"},
        {"password": ""},
        {"password": api.auditor, "appToken": api.everything},
        {"password": api.acme_id},
    ):
        assert is_root_failure(api.call({"auth": {"command": "api.authenticate", "params": params}}), -90_008)
    # With a valid key, the client gets the error.
    wrong = {"command": "api.authenticate", "params": {"password": api.auditor, "pin": "1"}}
    assert "pin" in is_root_failure(api.call({"auth": wrong})["auth"], -22)


def test_key_of_another_role_is_refused_wherever_it_stands(api: Tr50) -> None:
    login = {"command": "api.authenticate", "params": {"username": "a", "password": api.acme}}
    assert "auditor" in is_root_failure(api.call({"auth": login}), -13)
    assert is_root_failure(api.call({"1": {"command": "diag.ping"}}, {"X-API-Key": api.acme}), -13)


def test_session_that_ended_says_what_clients_match(api: Tr50) -> None:
    session = api.session()
    body = {"auth": {"sessionId": session}, "data": {"command": "session.end"}}
    assert api.call(body) == {"data": {"success": True}}
    answer = api.post(body)
    assert answer.status_code == 200
    assert answer.json() == {
        "success": False,
        "errorCodes": [-90_000],
        "errorMessages": [f"Authentication session is invalid: {session}"],
    }


def test_session_that_is_ended_is_one_of_the_same_key(api: Tr50) -> None:
    _, other = api.control.create_key("auditor", "*")
    mine, theirs = api.session(), api.control.sessions.open(api.control.authenticate(other).key_id)  # type: ignore[union-attr]
    end = {"command": "session.end", "params": {"id": theirs}}
    answer = api.call({"auth": {"sessionId": mine}, "1": end})
    assert is_root_failure(answer["1"], -2)
    assert api.control.sessions.find(theirs) is not None
    by_key = api.call({"1": {"command": "session.end"}}, {"X-API-Key": api.auditor})
    assert is_root_failure(by_key["1"], -22)
    assert api.call({"1": {"command": "session.end", "params": {"id": mine}}}, {"X-API-Key": api.auditor})
    assert api.control.sessions.find(mine) is None


def test_session_info_says_who_it_is(api: Tr50) -> None:
    session = api.session()
    info = api.call({"cmd": {"command": "session.info"}}, {"sessionId": session})["cmd"]["params"]
    assert info["id"] == session
    assert (info["orgId"], info["orgKey"], info["whoAmI"]) == ("acme", "acme", f"key:{api.auditor_id}")
    assert (info["hasSuperAdmin"], info["hasSuperOps"], info["hasOrgAdmin"], info["ttl"]) == (
        False,
        False,
        False,
        86_400,
    )
    assert info["startTime"] <= info["lastAccessed"]
    _, everything = api.control.create_key("auditor", "*")
    info = api.call({"cmd": {"command": "session.info"}}, {"X-API-Key": everything})["cmd"]["params"]
    assert "id" not in info
    assert (info["orgKey"], info["hasSuperOps"]) == ("*", True)


def test_sessions_of_several_keys_see_what_each_key_does(api: Tr50) -> None:
    seed(api, 2)
    api.add(foreign(DAY_MS, account="beta", name="theirs", path="/theirs"))
    mine = api.session()
    theirs = api.control.sessions.open(api.control.authenticate(api.beta).key_id)  # type: ignore[union-attr]
    answer = api.call(
        {
            "a": {"command": "usage.api.list", "sessionId": mine},
            "b": {"command": "usage.api.list", "sessionId": theirs},
            "c": {"command": "usage.api.list", "sessionId": "x" * 22},
        }
    )
    assert names(answer["a"]) == ["r1", "r0"]
    assert names(answer["b"]) == ["theirs"]
    assert is_root_failure(answer["c"], -90_000) == INVALID + "x" * 22


def test_logins_that_wait_for_the_disk_keep_no_key_waiting(api: Tr50) -> None:
    """Another process holds the lock of control.db. More logins wait for it than there are threads for look-ups."""
    holder = apsw.Connection(str(api.control.path))
    holder.execute("BEGIN IMMEDIATE")
    login = {"auth": {"command": "api.authenticate", "params": {"password": api.auditor}}}

    async def run() -> None:
        async with api.client() as client:
            logins = [asyncio.create_task(client.post("/api", json=login)) for _ in range(40)]
            await asyncio.to_thread(until, api.control._write_lock.locked, "a login waits")
            answer = await client.post("/api", json={"1": {"command": "diag.ping"}}, headers={"X-API-Key": api.auditor})
            assert answer.json() == {"1": {"success": True}}
            holder.execute("ROLLBACK")
            holder.close()
            answers = [await task for task in logins]
            # Each login waits at most 2 s and then fails: if all had waited at once, all would fail.
            assert {a.status_code for a in answers} <= {200, 503}
            assert sum(a.status_code == 200 for a in answers) >= 30

    asyncio.run(run())
