"""The whole path as a user sets it up: topic, application, Kafka, `serve` with its indexer, usage and trail; then each
related command. Installed commands as processes; nothing of asgi_audit is imported."""

from __future__ import annotations

import json
import shutil
import signal
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from tests.e2e.commands import COMMAND, run, running
from tests.e2e.test_five_minutes import EXAMPLES, UVICORN, call, port_of
from tests.support.waiting import until

FROM, TO = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


def asked(base: str, path: str, key: str, body: object = None) -> tuple[Any, Any]:
    request = urllib.request.Request(base + path, None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {key}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read()), answer.headers


def records(base: str, path: str, key: str) -> list[Any]:
    made, _ = asked(base, path, key, {"from": FROM, "to": TO})
    page, headers = asked(base, f"{path}/query-result/{made['queryExecutionId']}?limit=100", key)
    assert headers["Audit-Incidents"] == "0"
    return list(page["data"])


def test_request_is_answered_by_usage_and_trail_when_it_went_through_kafka(address: str, tmp_path: Path) -> None:
    url = f"kafka://{address}/road-{uuid.uuid4().hex[:8]}"
    made = run("topics", "create", url, "--partitions", "2", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert "made: 2 partitions, 1 replicas" in made.stdout
    again = run("topics", "create", url, "--partitions", "2", "--message-bytes", "8m", cwd=tmp_path)
    assert again.returncode == 1
    assert "is there already" in again.stdout
    assert "wrong: max.message.bytes is 4194304, wanted 8388608: a larger record is refused" in again.stdout

    shutil.copytree(EXAMPLES, tmp_path / "examples")
    home = str(tmp_path / "app-home")
    environment = {"ASGI_AUDIT_TRANSPORT": url, "ASGI_AUDIT_HOME": home}
    with (
        running(*UVICORN, "examples.fastapi_app:app", cwd=tmp_path, **environment) as app,
        running(COMMAND, "serve", "--port", "0", "--from", url, "--account", "*", cwd=tmp_path) as serve,
    ):
        port = port_of(app.wait_for("Uvicorn running on"))
        assert call(port, "POST", "/orders", {"item": "tea", "password": "hunter2"}, authorization="Bearer x")[0] == 201
        base = "http://127.0.0.1:" + str(port_of(serve.wait_for("listens on")))
        serve.wait_for("More keys")
        created = run("keys", "create", "--role", "reader", "--account", "*", cwd=tmp_path)
        key = next(word for word in created.stdout.split() if len(word) > 30)

        def usage() -> list[Any]:
            return records(base, "/usage/app/default", key)

        until(lambda: len(usage()) == 1, "usage has the request")
        (record,) = usage()
        assert (record["request"]["method"], record["request"]["path"]) == ("POST", "/orders")
        assert "hunter2" not in json.dumps(record)
        until(lambda: any(r["request"]["path"] == "/orders" for r in records(base, "/trail", key)), "trail has it")
        # Requests to the API are audited through the same topic.
        until(lambda: any(r["metadata"]["service"] == "logs" for r in records(base, "/trail", key)), "reads are there")
        _, headers = asked(base, "/usage/app/default/query-result/" + asked(
            base, "/usage/app/default", key, {"from": FROM, "to": TO})[0]["queryExecutionId"], key)  # fmt: skip
        assert headers["Audit-Complete-Until"] is not None

        # tail shows the local journal, independent of the topic.
        assert "POST /orders" in run("tail", "--home", home, "--from", url, cwd=tmp_path).stdout
        looked = run(
            "doctor", "--from", url, "--home", home, "--to", f"sqlite:///{tmp_path}/.asgi-audit/index", cwd=tmp_path
        )
        assert " responds, 1 broker" in looked.stdout, looked.stdout
        assert "2 partitions, 1 replicas" in looked.stdout
        absent = run("doctor", "--from", url + "-not-there", "--home", home, cwd=tmp_path)
        assert absent.returncode == 1
        assert "-not-there does not exist. asgi-audit topics create" in absent.stdout
        # Killed: another process forwards what it left, and removes its journal.
        call(port, "GET", "/orders/1")
        app.stop(signal.SIGKILL)
        forwarded = run(
            "forward", "--once", "--home", home, "--from", f"journal:///{home}/journal", "--to", url, cwd=tmp_path
        )
        assert forwarded.returncode == 0, forwarded.stderr
        assert list(Path(home, "journal").glob("[!.]*")) == []
        assert serve.stop() == 0
