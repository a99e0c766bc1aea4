"""Real clients of TR50, against `asgi-audit serve`: their requests, and the parts of the responses that they read. They
are reimplemented here from their sources, in the fewest lines."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .commands import COMMAND, run, running


class Served:
    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.url = f"http://127.0.0.1:{port}/api"

    def post(self, body: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url, body.encode(), headers or {}, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()

    def read(self) -> None:
        """A read of the API, which becomes a record of service `logs`."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/trail",
            b'{"from":"2024-01-01T00:00:00Z","to":"2024-01-02T00:00:00Z"}',
            {"Authorization": f"Bearer {self.key}"},
            method="POST",
        )
        urllib.request.urlopen(request, timeout=60).close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    key = run("keys", "create", "--role", "auditor", "--account", "acme", cwd=home).stdout.strip()
    with running(COMMAND, "serve", "--port", "0", cwd=home) as serve:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", serve.wait_for("listens on"))
        assert found is not None
        yield Served(int(found[1]), key)


class Sample:
    """The vendor's sample library, which several integrations use: no Content-Type but the one of its HTTP library, the
    id `data`; success is the root's `success`, by default true. It pings before it works, and logs in when that fails.
    `matches`: an integration logs in again when an error message contains this text."""

    matches = "Authentication session is invalid: "

    def __init__(self, served: Served, *, is_application: bool, session_id: str = "") -> None:
        self.served = served
        self.session_id = session_id
        self.logins = 0
        self.response: Any = None
        self.credentials = (
            {"appId": "0001", "appToken": served.key, "thingKey": "thing"}
            if is_application
            else {"username": "me@example.com", "password": served.key}
        )
        if not session_id or not self.execute("diag.ping"):
            self.session_id = ""
            self.auth()

    def auth(self) -> None:
        self.logins += 1
        assert self.post({"auth": {"command": "api.authenticate", "params": self.credentials}})
        self.session_id = self.response["auth"]["params"]["sessionId"]

    def execute(self, command: str, params: Any = False) -> bool:
        data = {"command": command, **({} if params is False else {"params": params})}
        return self.post({"data": data})

    def post(self, body: dict[str, Any]) -> bool:
        if "auth" not in body:
            body["auth"] = {"sessionId": self.session_id}
        status, content = self.served.post(json.dumps(body))
        assert status == 200
        self.response = json.loads(content)
        if any(self.matches in message for message in self.response.get("errorMessages", [])):
            self.auth()
            body["auth"]["sessionId"] = self.session_id
            return self.post(body)
        return bool(self.response.get("success", True))


@pytest.mark.parametrize("is_application", [True, False])
def test_sample_library_logs_in_lists_and_logs_in_again_when_its_session_ended(
    served: Served, is_application: bool
) -> None:
    client = Sample(served, is_application=is_application)
    asked = {"service": "logs", "command": "trail.start", "last": "1h"}
    assert client.execute("usage.api.list", {**asked, "limit": 1})
    before = client.response["data"]["params"]["count"]
    for _ in range(3):
        served.read()
    assert client.execute("usage.api.list", asked)
    found = client.response["data"]["params"]
    assert found["count"] == before + 3  # results of earlier requests
    assert json.loads(found["result"][0]["request"])["path"] == "/trail"
    assert client.execute("session.info")
    assert client.response["data"]["params"]["whoAmI"].startswith("key:")
    assert client.execute("session.end", {"id": client.session_id})
    assert client.execute("diag.ping")
    assert client.logins == 2
    assert Sample(served, is_application=is_application, session_id=client.session_id).logins == 0
    assert Sample(served, is_application=is_application, session_id="0123456789abcdef01234567").logins == 1


def test_firmware_speaks_http_1_0_and_keeps_the_session_in_thirty_characters(served: Served) -> None:
    def post(text: str) -> str:
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
            head = (
                f"POST /api HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length:{len(text)}\r\n\r\n"
            )
            connection.sendall((head + text).encode())
            with connection.makefile() as file:
                answer = file.read()
        assert answer.startswith(("HTTP/1.0 200", "HTTP/1.1 200"))
        return answer

    login = '{"auth":{"command":"api.authenticate","params":{"appToken":"KEY","appId":"app","thingKey":"thing"}}}\r\n'
    answer = post(login.replace("KEY", served.key))
    found = re.search(r'"sessionId":"([^"]*)"', answer)
    assert found is not None
    assert len(found[1]) < 30
    ping = '{"auth":{"sessionId":"ID"},"1":{"command":"diag.ping"}}\r\n'
    end = '{"auth":{"sessionId":"ID"},"1":{"command":"session.end","params":{"id":"ID"}}}'
    for text in (ping, end):
        assert '"success":true' in post(text.replace("ID", found[1]))
    assert '"success":false' in post(ping.replace("ID", found[1]))


def test_script_sends_the_session_as_a_header_and_takes_what_stands_under_cmd_or_auth(served: Served) -> None:
    def send(body: Any, session_id: str = "") -> Any:
        _, content = served.post(json.dumps(body), {"sessionId": session_id} if session_id else {})
        answer = json.loads(content)
        return answer["auth"] if "auth" in answer else answer["cmd"]

    login = {"username": "me@example.com", "password": served.key}
    session = send({"auth": {"command": "api.authenticate", "params": login}})["params"]["sessionId"]
    assert send({"cmd": {"command": "session.info"}}, session)["params"]["orgKey"] == "acme"
    listed = send({"cmd": {"command": "usage.api.list", "params": {"last": "24h"}}}, session)
    assert listed["success"] is True
    assert send({"cmd": {"command": "thing.find", "params": {"key": "x"}}}, session)["success"] is False


def test_service_sends_several_commands_beside_a_session_of_null_until_it_has_one(served: Served) -> None:
    """It reads the codes of the root, else those under each id, and takes only -90041 for a second factor."""
    none = {"auth": {"sessionId": None}, "1": {"command": "session.info"}, "2": {"command": "diag.ping"}}
    _, content = served.post(json.dumps(none))
    answer = json.loads(content)
    assert answer["success"] is False
    assert answer["errorCodes"][0] not in (0, -90_041)
    login = {"command": "api.authenticate", "params": {"username": "me", "password": served.key}}
    _, content = served.post(json.dumps({"auth": login}))
    session = json.loads(content)["auth"]["params"]["sessionId"]
    _, content = served.post(json.dumps({**none, "auth": {"sessionId": session}}))
    assert [json.loads(content)[id]["success"] for id in "12"] == [True, True]


def test_session_begins_and_ends_for_all_workers_at_once(tmp_path: Path) -> None:
    key = run("keys", "create", "--role", "auditor", "--account", "acme", cwd=tmp_path).stdout.strip()
    with running(COMMAND, "serve", "--port", "0", "--workers", "3", cwd=tmp_path) as serve:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", serve.wait_for("listens on"))
        assert found is not None
        served = Served(int(found[1]), key)
        client = Sample(served, is_application=False)
        session = client.session_id
        ping = json.dumps({"auth": {"sessionId": session}, "data": {"command": "diag.ping"}})
        assert {served.post(ping)[1] for _ in range(25)} == {b'{"data":{"success":true}}'}  # a connection each
        assert client.execute("session.end")
        for _ in range(25):
            assert json.loads(served.post(ping)[1])["errorCodes"] == [-90_000]
        assert serve.stop() == 0
