"""docker/: the files agree with each other and with the commands; this needs no engine. Images are built and run in
tests/integration/test_docker.py."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest
import yaml

from asgi_audit import __version__
from asgi_audit.addresses import url_path
from asgi_audit.cli import COMMANDS, _parser
from asgi_audit.settings import make_settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
NAME = "app.kubernetes.io/name"
TOPIC = "kafka://kafka:9092/audit-records"
SIZE = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

Document = dict[str, Any]


def documents() -> list[Document]:
    return [d for d in yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text("utf-8")) if d]


def of_kind(*kinds: str) -> list[Document]:
    return [d for d in documents() if d["kind"] in kinds]


def workloads() -> list[Any]:
    found = of_kind("StatefulSet", "Job")
    return [pytest.param(d, id=d["metadata"]["name"]) for d in found]


def containers(document: Document) -> list[Document]:
    pod = document["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def compose() -> Document:
    content: Document = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    return content


def ours() -> dict[str, Document]:
    """The services in the compose file that run the image of asgi-audit."""
    return {name: s for name, s in compose()["services"].items() if "build" in s}


def environment(container: Document) -> dict[str, str]:
    """The environment of a Kubernetes container, including the image's."""
    return image_environment() | {e["name"]: e["value"] for e in container.get("env", [])}


def image_environment() -> dict[str, str]:
    return dict(re.findall(r"^ +(ASGI_AUDIT_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text("utf-8"), re.MULTILINE))


def understood(arguments: list[str], env: dict[str, str]) -> None:
    """Whether the command accepts these arguments, and whether these settings exist."""
    assert arguments[0] in COMMANDS
    parsed = vars(_parser(arguments[0]).parse_args(arguments))
    given = {name.removeprefix("setting_"): v for name, v in parsed.items() if name.startswith("setting_")}
    settings = make_settings(env, **given)
    assert settings.home == Path("/data")
    for url in (settings.store_url, *([] if settings.is_kafka else [settings.transport_url])):
        assert url_path(url).is_relative_to("/data"), f"{url} is on no volume"


# Kubernetes


def test_documents_are_complete_and_their_names_unique() -> None:
    seen = set()
    for document in documents():
        assert (
            document["apiVersion"] == {"Service": "v1", "Job": "batch/v1", "StatefulSet": "apps/v1"}[document["kind"]]
        )
        name = document["metadata"]["name"]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", name)
        assert document["metadata"]["labels"] == {NAME: name}
        seen.add((document["kind"], name))
    assert len(seen) == len(documents())
    assert {kind for kind, _ in seen} == {"Job", "Service", "StatefulSet"}


def test_services_select_pods_and_ports_that_exist() -> None:
    sets = {d["metadata"]["name"]: d for d in of_kind("StatefulSet")}
    services = {d["metadata"]["name"]: d for d in of_kind("Service")}
    for name, document in sets.items():
        spec = document["spec"]
        assert spec["serviceName"] in services
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == {NAME: name}
    for service in services.values():
        spec = sets[service["spec"]["selector"][NAME]]
        ports = {p["name"]: p["containerPort"] for c in containers(spec) for p in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("document", workloads())
def test_pods_run_without_privileges(document: Document) -> None:
    pod = document["spec"]["template"]["spec"]
    user = int(re.search(r"^USER (\d+):", (DOCKER / "Dockerfile").read_text("utf-8"), re.MULTILINE)[1])  # type: ignore[index]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == user
    assert pod["automountServiceAccountToken"] is False
    for container in containers(document):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["image"] == f"asgi-audit:{__version__}"
        assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize("document", workloads())
def test_commands_and_environment_are_understood(document: Document) -> None:
    for container in containers(document):
        env = environment(container)
        if "command" in container:
            assert container["command"][0] == "uvicorn"
            module = container["command"][1].partition(":")[0]
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()
            assert make_settings(env).journal_path == Path("/data/journal")
        else:
            understood(container["args"], env)


@pytest.mark.parametrize("document", of_kind("StatefulSet"), ids=lambda d: d["metadata"]["name"])
def test_home_is_on_a_volume_that_survives_the_pod(document: Document) -> None:
    spec = document["spec"]
    claims = {c["metadata"]["name"]: c["spec"] for c in spec["volumeClaimTemplates"]}
    volumes = {v["name"] for v in spec["template"]["spec"].get("volumes", [])} | set(claims)
    for container in containers(document):
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        assert set(mounts.values()) <= volumes
        claim = claims[mounts["/data"]]
        assert claim["accessModes"] == ["ReadWriteOnce"]
        size = claim["resources"]["requests"]["storage"]
        journal = make_settings(environment(container)).journal_bytes_max
        assert int(size[:-2]) * SIZE[size[-2:]] > journal, "a journal within its bound would fill the volume"


def test_journal_is_forwarded_by_a_sidecar_that_ends_after_the_application() -> None:
    (shop,) = (d for d in of_kind("StatefulSet") if d["metadata"]["name"] == "shop")
    (sidecar,) = shop["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    (app,) = shop["spec"]["template"]["spec"]["containers"]
    assert sidecar["args"] == ["forward", "--from", environment(app)["ASGI_AUDIT_TRANSPORT"], "--to", TOPIC]
    assert app["volumeMounts"] == sidecar["volumeMounts"]
    (port,) = sidecar["ports"]
    assert sidecar["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": port["name"]}
    # It decides whether the pod is ready, and while Kafka is unreachable the shop must keep running.
    assert "readinessProbe" not in sidecar


def test_index_and_api_are_probed_where_they_answer() -> None:
    (audit,) = (d for d in of_kind("StatefulSet") if d["metadata"]["name"] == "audit")
    assert audit["spec"]["replicas"] == 1, "two pods would have two volumes, hence two indexes"
    found = {c["name"]: c for c in containers(audit)}
    assert set(found) == {"index", "api"}
    for name, container in found.items():
        settings = make_settings(environment(container))
        listens = settings.port if name == "api" else settings.metrics_port
        assert (settings.host if name == "api" else settings.metrics_host) == "0.0.0.0"
        (port,) = container["ports"]
        assert port["containerPort"] == listens
        for probe, path in (
            ("livenessProbe", "/health/live"),
            ("readinessProbe", "/health/ready"),
            ("startupProbe", "/health/live"),
        ):
            assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    for option, name in (("--to", "index"), ("--store", "api")):
        arguments = found[name]["args"]
        assert arguments[arguments.index(option) + 1] == "sqlite:////data/index"


def test_all_speak_of_one_topic() -> None:
    for name in ("kubernetes.yaml", "compose.yaml"):
        found = set(re.findall(r"kafka://[^\s\"',}]+", (DOCKER / name).read_text("utf-8")))
        assert found == {TOPIC}


# Compose


def test_compose_says_nothing_that_one_of_its_readers_does_not_know() -> None:
    """docker-compose 1.29 refuses unknown keys; `docker compose` warns of `version`."""
    content = compose()
    assert {key for key in content if not key.startswith("x-")} == {"services", "volumes"}
    known = {
        *("build", "cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image", "ports"),
        *("profiles", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "volumes"),
    }
    for name, service in content["services"].items():
        assert set(service) <= known, name
        assert set(service.get("healthcheck", {})) <= {"test", "interval", "timeout", "retries", "disable"}, name


def test_compose_keeps_all_data_on_named_volumes() -> None:
    content = compose()
    for name, service in content["services"].items():
        mounts = dict(v.split(":")[:2] for v in service["volumes"])
        assert set(mounts) <= set(content["volumes"]), name
        if name != "kafka":
            assert list(mounts.values()) == ["/data"], name
    kafka = content["services"]["kafka"]
    assert kafka["environment"]["KAFKA_LOG_DIRS"] in [v.split(":")[1] for v in kafka["volumes"]]


def test_compose_commands_and_environment_are_understood() -> None:
    assert set(ours()) == {"init", "app", "index", "api", "ask"}
    for name, service in ours().items():
        env = {k: v for k, v in service.get("environment", {}).items() if k.startswith("ASGI_AUDIT_")}
        settings = make_settings(image_environment() | env)
        if name in ("index", "api"):
            understood(service["command"], image_environment() | env)
        elif name == "init":
            _parser("topics").parse_args(["topics", "create", *service["command"], settings.transport])
        else:
            module = next(word for word in service["entrypoint"] if word.startswith("examples.")).partition(":")[0]
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_compose_shows_its_ports_on_this_machine_alone() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_build_sees_what_it_copies() -> None:
    """All files that .dockerignore includes exist, and the Dockerfile copies no others."""
    allowed = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    sources = {word for line in copied for word in line.split()}
    assert sources == set(allowed)
    assert all((ROOT / name).exists() for name in sources)


# The small programs of the image


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirements_follow_the_extras_of_the_project_itself(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[build-system]\nrequires = ["builder>=1"]\n[project]\nname = "p-q"\ndependencies = ["core"]\n'
        '[project.optional-dependencies]\na = ["one>=2"]\nb = ["two"]\nall = ["p-q[a, b]", "three"]\n'
    )
    requirements = loaded("requirements").requirements
    assert requirements(pyproject, "all") == ["core", "one>=2", "three", "two"]
    assert requirements(pyproject, "a", "build") == ["builder>=1", "core", "one>=2"]


def test_requirements_are_those_of_the_image() -> None:
    done = subprocess.run(
        [sys.executable, str(DOCKER / "requirements.py"), str(ROOT / "pyproject.toml"), "all"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {re.split(r"[<>=\[]", line)[0] for line in done.stdout.split()}
    assert {"orjson", "msgspec", "aiokafka", "apsw", "starlette", "uvicorn"} <= names
    assert "asgi-audit" not in names


class _Probed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/live" else 503)
        self.end_headers()
        self.wfile.write(b"why")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def probed() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Probed) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize(("path", "code"), [("/health/live", 0), ("/health/ready", 1)])
def test_healthcheck_answers_by_its_exit_code_when_a_proxy_is_set(probed: str, path: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, str(DOCKER / "healthcheck.py"), probed + path],
        capture_output=True,
        text=True,
        env={"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
    )
    assert done.returncode == code, done.stdout + done.stderr


def test_healthcheck_fails_when_nothing_listens(probed: str) -> None:
    closed = HTTPServer(("127.0.0.1", 0), _Probed)
    port = closed.server_port
    closed.server_close()
    done = subprocess.run(
        [sys.executable, str(DOCKER / "healthcheck.py"), f"http://127.0.0.1:{port}/health/live"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "refused" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/opt/venv/bin/python", "/opt/venv/bin/asgi-audit", "serve"], "http://127.0.0.1:8500/health/live"),
        (["python", "/opt/venv/bin/asgi-audit", "index", "--to", "x"], "http://127.0.0.1:9500/health/live"),
        (["python", "/opt/venv/bin/asgi-audit", "forward", "--to", "x"], "http://127.0.0.1:9500/health/live"),
        (["python", "/opt/venv/bin/asgi-audit", "keys", "create"], ""),
    ],
)
def test_healthcheck_asks_the_command_that_runs(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = loaded("healthcheck")
    (tmp_path / "cmdline").write_bytes(b"\0".join(w.encode() for w in words) + b"\0")
    monkeypatch.setenv("ASGI_AUDIT_PORT", "8500")
    monkeypatch.setenv("ASGI_AUDIT_METRICS_PORT", "9500")
    monkeypatch.setattr(module, "CMDLINE", tmp_path / "cmdline")
    assert module.address() == expected
