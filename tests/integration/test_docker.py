"""The image and the compose file on a real Docker engine: built, started, queried, damaged, and removed with its
volumes.

One stack serves all tests, in order, because building and starting it takes most of the time. Everything has a project
name and ports of its own; the image's tag remains as the next run's cache. Uses only the compose file, as a user does:
nothing of asgi_audit is imported.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.kafka import docker_answers
from tests.support.ports import free_ports
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
IMAGE = "asgi-audit:test"
HOW_TO_GET_ONE = (
    "no Docker engine with compose: `apt-get install docker.io docker-compose` and start `dockerd`, or install Docker"
)
# What the image adds to its base measured 63 MB; the public base has 125 MB, another one that stands in for it 177 MB.
ADDED_BYTES_MAX = 115_000_000  # with boto3 for exports, pydantic, and rich: 107 MB
IMAGE_BYTES_MAX = 300_000_000


def compose_command() -> list[str] | None:
    """`docker compose`, else docker-compose; None without either."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


def run(*command: str, seconds: float = 60, check: bool = True, **environment: str) -> str:
    """Returns standard output; a failure shows the command's output."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, cwd=ROOT, env={**os.environ, **environment}
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


class Stack:
    """The compose file under a project name of its own."""

    def __init__(self, command: list[str]) -> None:
        self.project = f"asgi-audit-test-{uuid.uuid4().hex[:8]}"
        app, api = free_ports(2)
        self.app, self.api = f"http://127.0.0.1:{app}", f"http://127.0.0.1:{api}"
        self._key = ""
        self._command = [*command, "-f", str(FILE), "-p", self.project]
        self._environment = {"APP_PORT": str(app), "API_PORT": str(api), "AUDIT_IMAGE": IMAGE}

    def compose(self, *arguments: str, seconds: float = 120, check: bool = True, **environment: str) -> str:
        return run(*self._command, *arguments, seconds=seconds, check=check, **self._environment, **environment)

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "40", check=False)

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service).strip()

    def health(self, service: str) -> str:
        return run("docker", "inspect", "-f", "{{.State.Health.Status}}", self.container(service)).strip()

    def healthy(self, seconds: float = 180) -> None:
        for service in ("kafka", "app", "index", "api"):
            until(
                lambda service=service: self.health(service) == "healthy",
                lambda service=service: f"{service} is {self.health(service)}\n{self.logs()}",
                seconds,
            )

    def key(self) -> str:
        if not self._key:
            self._key = self.compose("exec", "-T", "api", "cat", "/data/first-key").strip()
        return self._key

    def order(self, item: str) -> None:
        body = {"item": item, "password": "hunter2"}
        assert call(f"{self.app}/orders", body=body)[0] == 201

    def ask(self, path: str) -> list[dict[str, Any]]:
        """All records of today that `path` (`trail` or `usage/…`) returns, page by page; [] before the first."""
        key, url = self.key(), f"{self.api}/{path}"
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        window = {"from": f"{now - day:%Y-%m-%dT%H:%M:%SZ}", "to": f"{now + day:%Y-%m-%dT%H:%M:%SZ}"}
        status, started = call(url, key=key, body=window)
        if status in (404, 503):
            return []
        assert status == 200, (status, started)
        records: list[dict[str, Any]] = []
        page = f"{url}/query-result/{started['queryExecutionId']}?limit=100"
        token = ""
        while True:
            status, answer = call(page + (f"&nextToken={token}" if token else ""), key=key)
            assert status == 200, (status, answer)
            records += answer["data"]
            token = answer.get("nextToken") or ""
            if not token:
                return records

    def items(self, path: str = "trail") -> Counter[str]:
        """How often each ordered item occurs in the response."""
        bodies = (record["request"]["body"] for record in self.ask(path) if record["request"]["path"] == "/orders")
        return Counter(body["item"] for body in bodies)

    def holds(self, expected: list[str], seconds: float, path: str = "trail") -> None:
        """Waits until the response has all of `expected`, then checks that each of them occurs once."""
        missing = set(expected)

        def complete() -> bool:
            nonlocal missing
            missing = set(expected) - set(self.items(path))
            return not missing

        until(complete, lambda: f"{sorted(missing)} in {path}\n{self.logs()}", seconds)
        found = self.items(path)
        assert {item: found[item] for item in expected} == dict.fromkeys(expected, 1)


def call(url: str, *, key: str = "", body: object = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.loads(e.read())


def kubernetes(name: str) -> Any:
    """The pod of a StatefulSet of the example."""
    for document in yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text("utf-8")):
        if document and (document["kind"], document["metadata"]["name"]) == ("StatefulSet", name):
            return document["spec"]["template"]["spec"]
    raise AssertionError(f"there is no StatefulSet {name}")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    command = compose_command() if docker_answers() else None
    if command is None:
        pytest.skip(HOW_TO_GET_ONE)
    stack = Stack(command)
    started = time.monotonic()
    # The network of builds may have no access to a package index that the machine itself has.
    for network in ("default", "host"):
        built = subprocess.run(
            [*stack._command, "build", "api"],
            capture_output=True,
            text=True,
            timeout=400,
            env={**os.environ, **stack._environment, "BUILD_NETWORK": network},
        )
        if built.returncode == 0:
            break
    else:
        pytest.fail(f"the image cannot be built:\n{(built.stdout + built.stderr)[-4000:]}")
    run("docker", "image", "prune", "-f", "--filter", "label=org.opencontainers.image.title=asgi-audit", check=False)
    print(f"\nbuilt in {time.monotonic() - started:.0f} s (network {network})")
    try:
        started = time.monotonic()
        stack.compose("up", "-d", seconds=180)
        print(f"up in {time.monotonic() - started:.0f} s")
        stack.healthy()
        print(f"healthy in {time.monotonic() - started:.0f} s")
        yield stack
    finally:
        started = time.monotonic()
        stack.compose("down", "-v", "--remove-orphans", "--timeout", "10", check=False)
        print(f"down in {time.monotonic() - started:.0f} s")


def test_image_is_small_and_bare(stack: Stack) -> None:
    image = json.loads(run("docker", "image", "inspect", IMAGE))[0]
    base = json.loads(run("docker", "image", "inspect", "python:3.13-slim"))[0]
    print(f"\nimage {image['Size'] / 1e6:.0f} MB, of which the base {base['Size'] / 1e6:.0f} MB")
    assert image["Size"] <= IMAGE_BYTES_MAX
    assert image["Size"] - base["Size"] <= ADDED_BYTES_MAX
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    found = run(
        *("docker", "run", "--rm", "--entrypoint", "sh", IMAGE, "-c"),
        "for tool in gcc cc c++ ld make git; do command -v $tool; done; ls /opt/venv/bin | grep pip; "
        "ls -d /opt/venv/lib/*/site-packages/pip /opt/venv/lib/*/site-packages/hatchling 2>/dev/null; "
        "touch /opt/asgi-audit/x 2>/dev/null && echo writable; echo end",
    )
    assert found == "end\n"


def test_image_answers_alone_when_no_kafka_is_there(stack: Stack) -> None:
    """Embedded: one container that indexes and serves, healthy by the image's own check, and ends cleanly."""
    name = f"{stack.project}-alone"
    run("docker", "run", "-d", "--name", name, "--read-only", "--tmpfs", "/tmp", "-v", f"{name}:/data", IMAGE)
    try:
        for code in ("import sys, urllib.request as u; u.urlopen('http://127.0.0.1:8400/health/ready', timeout=2)",):
            until(
                lambda code=code: (
                    subprocess.run(["docker", "exec", name, "python", "-c", code], capture_output=True).returncode == 0
                ),
                lambda: run("docker", "logs", name),
                120,
            )
        run("docker", "exec", name, "healthcheck")
        run("docker", "stop", "--time", "20", name)
        assert run("docker", "inspect", "-f", "{{.State.ExitCode}}", name) == "0\n"
    finally:
        run("docker", "rm", "-f", name, check=False)
        run("docker", "volume", "rm", name, check=False)


def test_usage_and_trail_hold_what_the_application_answered(stack: Stack) -> None:
    items = [f"first-{n}" for n in range(5)]
    for item in items:
        stack.order(item)
    stack.holds(items, 30, "trail")
    stack.holds(items, 5, "usage/shop/default")
    passwords = {r["request"]["body"]["password"] for r in stack.ask("trail") if r["request"]["path"] == "/orders"}
    assert passwords
    assert "hunter2" not in str(passwords)


def test_key_is_in_a_file_for_its_owner_and_in_no_log(stack: Stack) -> None:
    mode = stack.compose("exec", "-T", "api", "stat", "-c", "%a %u", "/data/first-key")
    assert mode.split() == ["600", "10001"]
    assert stack.key() not in stack.compose("logs", "--no-color")
    assert call(f"{stack.api}/trail", body={})[0] == 401


def test_ask_shows_the_first_answer(stack: Stack) -> None:
    stack.order("asked-for")
    stack.holds(["asked-for"], 30)
    said = stack.compose("run", "--rm", "ask")
    assert '"asked-for"' in said
    assert stack.key() not in said
    assert '"asked-for"' in stack.compose("run", "--rm", "ask", "usage", "shop", "default")


def test_records_arrive_once_when_kafka_and_the_application_died(stack: Stack) -> None:
    """Kafka is killed, the application continues, is killed too and started again, then Kafka returns."""
    before = [f"before-{n}" for n in range(5)]
    for item in before:
        stack.order(item)
    stack.compose("kill", "-s", "KILL", "kafka")
    away = [f"away-{n}" for n in range(10)]
    for item in away:
        stack.order(item)
    in_journal(stack.container("app"), away[-1])
    stack.compose("kill", "-s", "KILL", "app")
    stack.compose("start", "app")
    until(lambda: _answers(stack), stack.logs, 120)
    after = [f"after-{n}" for n in range(5)]
    for item in after:
        stack.order(item)
    assert call(f"{stack.api}/health/ready")[0] == 200, "the index answers as far as it stands"
    started = time.monotonic()
    stack.compose("start", "kafka")
    stack.holds(before + away + after, 180)
    print(f"\nall there {time.monotonic() - started:.0f} s after Kafka was started again")
    stack.healthy()


def test_forwarder_beside_sends_what_an_application_left_that_died(stack: Stack) -> None:
    """The pod of docker/kubernetes.yaml with its own commands: an application and a forwarder that share a volume, here
    one after the other."""
    pod = kubernetes("shop")
    (app,), (forward,) = pod["containers"], pod["initContainers"]
    name = f"{stack.project}-shop"
    environment = {e["name"]: e["value"] for e in app["env"]}
    shared = ["--network", f"{stack.project}_default", "--read-only", "--tmpfs", "/tmp", "-v", f"{name}:/data"]
    given = [word for key, value in environment.items() for word in ("-e", f"{key}={value}")]
    try:
        command = ["docker", "run", "-d", "--name", name, *shared, *given, "--entrypoint", app["command"][0], IMAGE]
        run(*command, *app["command"][1:])
        items = [f"pod-{n}" for n in range(5)]
        script = (
            "import json, urllib.request as u\n"
            f"for item in {items}:\n"
            "    u.urlopen('http://127.0.0.1:8000/orders', json.dumps({'item': item, 'password': 'p'}).encode(), 5)"
        )
        ready = ["docker", "exec", name, "python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000))"]
        until(
            lambda: subprocess.run(ready, capture_output=True).returncode == 0,
            lambda: run("docker", "logs", name),
            120,
        )
        run("docker", "exec", name, "python", "-c", script)
        in_journal(name, items[-1])
        run("docker", "kill", "--signal", "KILL", name)
        run("docker", "run", "--rm", *shared, IMAGE, *forward["args"], "--once", "--seconds", "60", seconds=90)
        stack.holds(items, 120)
    finally:
        run("docker", "rm", "-f", name, check=False)
        run("docker", "volume", "rm", name, check=False)


def test_records_and_key_stay_when_the_stack_is_made_anew(stack: Stack) -> None:
    key = stack.key()
    items = stack.items()
    stack.compose("down", "--timeout", "20")
    # The ports were free for a moment: another program may have one for a while.
    up = [*stack._command, "up", "-d"]
    until(
        lambda: subprocess.run(up, capture_output=True, env={**os.environ, **stack._environment}).returncode == 0,
        stack.logs,
        300,
    )
    stack.healthy()
    assert stack.compose("exec", "-T", "api", "cat", "/data/first-key").strip() == key
    assert items - stack.items() == Counter()
    stack.order("anew")
    stack.holds(["anew", *items], 120)


def in_journal(container: str, item: str) -> None:
    """Waits until an order is in the journal, after those before it: `buffered` may lose later ones, by design."""
    find = ["docker", "exec", container, "grep", "-rqs", f'"{item}"', "/data"]
    until(lambda: subprocess.run(find, capture_output=True).returncode == 0, f"{item} is in the journal", 120)


def _answers(stack: Stack) -> bool:
    try:
        return call(f"{stack.app}/orders", body={"item": "is it up?"})[0] == 201
    except OSError:
        return False
