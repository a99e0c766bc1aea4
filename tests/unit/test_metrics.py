"""Metric names and help texts exist once; the application's own counters; bounded labels; the core imports no metrics
library."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from asgi_audit import AuditMiddleware, install, metrics
from asgi_audit.cli import sidecar
from asgi_audit.wiring.application import recorder_of
from asgi_audit.wiring.environment import settings_from


class Source:
    def __init__(self, **stats: int) -> None:
        self._stats = stats

    def stats(self) -> dict[str, int]:
        return self._stats


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """`name{label}` to value."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation
        for sample in family.samples:
            found[sample.name + "".join(f"{{{v}}}" for v in sample.labels.values())] = sample.value
    return found


def test_collector_shows_stats_and_losses_by_reason() -> None:
    registry = CollectorRegistry()
    registry.register(metrics.collector(Source(begun=5, sealed=4, open=1, lost_queue=2), Source(begun=3, lost_queue=1)))
    found = shown(registry)
    assert found["asgi_audit_begun_total"] == 8
    assert found["asgi_audit_captured_total"] == 4
    assert found["asgi_audit_open"] == 1
    assert found["asgi_audit_lost_total{queue}"] == 3
    assert found["asgi_audit_lost_total{journal_full}"] == 0, "a reason that did not happen yet is there too"


def test_reason_that_nobody_knows_counts_as_other_so_that_labels_stay_bounded() -> None:
    counts = {f"reason {n}": n for n in range(100)} | {"build": 1}
    found = metrics.lost_by_reason(counts)
    assert set(found) == {*metrics.LOST_REASONS, "other"}
    assert (found["other"], found["build"]) == (sum(range(100)), 1)


def test_stats_of_the_recorder_are_all_in_the_table(tmp_path: Path) -> None:
    recorder = recorder_of(settings_from(home=str(tmp_path)))
    known = set(metrics._OF_STATS)
    assert {name for name in recorder.stats() if not name.startswith("lost_")} <= known
    for name in metrics._OF_STATS.values():
        assert name in metrics.TABLE


def test_table_names_and_units_follow_the_conventions() -> None:
    for name, metric in metrics.TABLE.items():
        assert name.startswith("asgi_audit_")
        assert not name.endswith("_total"), "the library adds it"
        assert metric.help.endswith(".")
        assert set(metric.labels) <= {"reason", "dialect", "part", "state", "status"}


def test_every_metric_of_the_table_is_set_somewhere() -> None:
    sources = "".join(path.read_text("utf-8") for path in Path(metrics.__file__).parent.rglob("*.py"))
    of_the_indexer = {"asgi_audit_indexer_" + ("dead_letters" if n == "dead" else n) for n in sidecar._COUNTED}
    assert of_the_indexer <= metrics.TABLE.keys()
    assert {name for name in metrics.TABLE if sources.count(f'"{name}"') < 2} == of_the_indexer


async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def call(app: Any) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    scope = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": [],
        "http_version": "1.1", "scheme": "http", "root_path": "", "server": None, "client": None,
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))


def test_middleware_shows_its_counters_when_a_registry_is_given(tmp_path: Path) -> None:
    """An application's middleware stack may be built several times: the same journal is shown once."""
    registry = CollectorRegistry()
    audited = [AuditMiddleware(application, home=str(tmp_path), metrics=registry) for _ in range(2)]
    for app in audited:
        call(app)
    assert shown(registry)["asgi_audit_captured_total"] == 2
    other = AuditMiddleware(application, home=str(tmp_path / "other"), metrics=registry)
    call(other)
    assert shown(registry)["asgi_audit_captured_total"] == 3
    for app in (*audited, other):
        assert app.recorder is not None
        app.recorder.stop()


def test_nothing_is_registered_when_turned_off(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    AuditMiddleware(application, home=str(tmp_path), enabled=False, metrics=registry)
    assert shown(registry) == {}


def test_install_takes_a_registry_too(tmp_path: Path) -> None:
    from starlette.applications import Starlette

    registry = CollectorRegistry()
    app = install(Starlette(), home=str(tmp_path), metrics=registry)
    call(app)
    assert shown(registry)["asgi_audit_captured_total"] == 1
    recorder_of(settings_from(home=str(tmp_path))).stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("asked", [False, True])
def test_prometheus_client_is_imported_only_when_asked_for(tmp_path: Path, asked: bool) -> None:
    code = f"""
import sys
from asgi_audit import AuditMiddleware
import asgi_audit.metrics
async def app(scope, receive, send): pass
given = {{}}
if {asked}:
    from prometheus_client import CollectorRegistry
    given["metrics"] = CollectorRegistry()
AuditMiddleware(app, home={str(tmp_path)!r}, **given)
print("prometheus_client" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{asked}\n", done.stderr
