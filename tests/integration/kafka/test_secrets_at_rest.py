"""Secrets of requests, responses, annotations and errors are nowhere on disk: the whole path with a real Kafka.

Goal: none of 700 planted secrets is in the journal, the topic, the index, dead letters, exports, the control database,
logs, output of processes, or a `repr`. Method: exchanges of the three sets go through the middleware as a server calls
it; `serve` indexes the topic; then every file is read, raw and unpacked, and every response of the API.
"""

from __future__ import annotations

import datetime
import gzip
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.commands import COMMAND, clean_environment, run, running
from tests.e2e.test_five_minutes import port_of
from tests.support.waiting import until
from tests.unit.redaction import blind, cells, wild

from asgi_audit.cli.demo.ask import Client

from .conftest import make_topic, read_all

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[3]
SEEDS = 140
PROGRAM = """
import asyncio, json, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from asgi_audit import AuditMiddleware, annotate
from tests.integration.kafka.test_secrets_at_rest import exchanges

async def app(scope, receive, send):
    x = scope["exchange"]
    while (await receive())["more_body"]:
        pass
    secret = scope["secret"]
    annotate(principal="mira:password=" + secret, operation="login token=" + secret,
             message="password is '" + secret + "'",
             note={"api_key": secret, "deep": [{"headers": [["authorization", "Bearer " + secret]]}]}, password=secret)
    await send({"type": "http.response.start", "status": 200, "headers": x.response_headers})
    await send({"type": "http.response.body", "body": x.response_body.data(), "more_body": False})
    if scope["fails"]:
        raise RuntimeError("no login with " + secret)

async def play():
    for number, (secret, x) in enumerate(exchanges()):
        body = x.request_body.data()
        half = len(body) // 2
        messages = [{"type": "http.request", "body": body[:half], "more_body": True},
                    {"type": "http.request", "body": body[half:], "more_body": False}]
        async def receive():
            return messages.pop(0)
        async def send(message):
            pass
        scope = {"type": "http", "http_version": "1.1", "method": x.method, "path": x.path, "raw_path": x.raw_path,
                 "query_string": x.query_string, "headers": x.request_headers, "exchange": x, "secret": secret,
                 "fails": number % 7 == 0}
        try:
            await audited(scope, receive, send)
        except RuntimeError:
            pass

audited = AuditMiddleware(app)
asyncio.run(play())
print(repr(audited), repr(audited.settings), audited.stats()["sealed"])
"""


def exchanges() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for seed in range(SEEDS):
        planted = wild.planted(seed)
        found.append((planted.secret, planted.exchange))
    places = [(place, way) for place, ways in cells.PROMISE.items() for way in ways if way not in ("form",)]
    for seed, (place, way) in enumerate(places):
        cell = cells.cell(place, way, 1_000 + seed)
        if place != "json key":
            found.append((cell.secret, cell.exchange))
    for number, template in enumerate(blind.templates()):
        if number % 3 == 0 and "§n" not in template.text:  # six digits may occur in any record by chance
            made = blind.planted(template, 1_000)
            found.append((made.secret, made.exchange))
    return found


def needles() -> dict[bytes, str]:
    """All encodings in which a secret would be recognised, as the oracle of the cells has them."""
    return {spelling: secret for secret, _ in exchanges() for spelling in cells.spellings(secret)}


def found_in(data: bytes, wanted: dict[bytes, str]) -> list[str]:
    low = data.lower()
    told = {secret for spelling, secret in wanted.items() if spelling in low}
    at = data.find(b"\x1f\x8b")
    if at == 0:
        told |= set(found_in(gzip.decompress(data), wanted))
    return sorted(told)


def test_no_secret_rests_anywhere(address: str, tmp_path: Path) -> None:
    config = make_topic(address)
    url = f"kafka://{config.address}"
    wanted = needles()
    count = len(exchanges())
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=2)
    said = []
    with running(COMMAND, "serve", "--port", "0", "--from", url, "--account", "*", cwd=tmp_path) as serve:
        port = port_of(serve.wait_for("listens on"))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=clean_environment(
                ASGI_AUDIT_TRANSPORT=url, ASGI_AUDIT_HOME=str(tmp_path / "app"), PYTHONPATH=str(ROOT)
            ),
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f") {count}\n" in done.stdout
        said += [done.stdout.encode(), done.stderr.encode()]
        created = run("keys", "create", "--role", "auditor", "--account", "*", cwd=tmp_path)
        key = next(word for word in created.stdout.split() if len(word) > 30)
        client = Client(port, key)

        def page() -> bytes:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/records?service=app&limit=1000")
            request.add_header("Authorization", f"Bearer {key}")
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bytes(answer.read())

        def indexed() -> int:
            return page().count(b'"salt"')

        until(lambda: indexed() == count, lambda: f"{count} are indexed, not {indexed()}\n{serve.said}", 180)
        said.append(page())
        window = {"from": began.isoformat(timespec="milliseconds")}
        window["to"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        exported = client.export(client.begin_export("classic/default/app", window))
        assert len(exported.splitlines()) == count
        said.append(exported)
        said.append(run("tail", "--json", "-n", "1000", "--home", str(tmp_path / "app"), cwd=tmp_path).stdout.encode())
        doctor = run("doctor", "--from", url, "--home", str(tmp_path / "app"), cwd=tmp_path)
        said += [doctor.stdout.encode(), doctor.stderr.encode()]
        serve.stop()
        said.append(serve.said.encode())
    for text in said:
        assert found_in(text, wanted) == []
    messages = read_all(config, count)
    assert len(messages) >= count
    for message in messages:
        assert found_in(message.payload, wanted) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.suffix for path in files}
    assert {".db", ".gz"} & names, names
    for path in files:
        assert found_in(path.read_bytes(), wanted) == [], path
    # Tests the oracle: it finds planted secrets.
    first = next(iter(wanted.values()))
    assert found_in(gzip.compress(json.dumps({"a": first}).encode()), wanted)
