"""`serve --workers N` as a tree of processes: each of them may be killed, and none is left when the parent is killed.

Processes are found through the system, by their parent, and killed with SIGKILL.
"""

from __future__ import annotations

import datetime
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.commands import COMMAND, Running, run, running
from tests.support.waiting import until

WORKERS = 3


class Tree:
    """A `serve` with its children."""

    def __init__(self, command: Running) -> None:
        self.command = command
        self.url = re.search(r"http://[^,\s]+", command.wait_for("listens on"))[0]  # type: ignore[index]
        self.key = re.search(r"KEY=(\S+)", command.wait_for("KEY="))[1]  # type: ignore[index]
        self.parent = psutil.Process(command.process.pid)
        self.asked = 0
        until(lambda: self.number("asgi_audit_serve_workers") == WORKERS, "all workers answer")

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.parent.children() if "asgi_audit.cli.worker" in child.cmdline()]

    def indexer(self) -> psutil.Process:
        (found,) = (child for child in self.parent.children() if "index" in child.cmdline())
        return found

    def get(self, path: str) -> httpx.Response:
        """Over a connection of its own, and again when its worker was killed."""
        return _answer(lambda: httpx.get(self.url + path, timeout=30))

    def number(self, name: str, **labels: str) -> float:
        text = self.get("/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def ask(self) -> str:
        """Starts a query about all of today, which is a record of service `logs` itself. Returns its id."""
        now = datetime.datetime.now(datetime.UTC)
        window = {
            "from": (now - datetime.timedelta(days=1)).isoformat(),
            "to": (now + datetime.timedelta(days=1)).isoformat(),
        }
        key = {"x-api-key": self.key}
        answer = _answer(lambda: httpx.post(f"{self.url}/trail", json=window, headers=key, timeout=30))
        assert answer.status_code == 200, answer.text
        self.asked += 1
        return str(answer.json()["queryExecutionId"])

    def found(self) -> int:
        """The number of records that a query from now on finds."""
        execution = self.ask()
        page = httpx.get(
            f"{self.url}/trail/query-result/{execution}?limit=1000", headers={"x-api-key": self.key}, timeout=30
        )
        return len(page.json()["data"])


def _answer(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The response of the first call whose connection is not lost."""

    def once() -> httpx.Response | None:
        try:
            return call()
        except httpx.TransportError:
            return None

    answer = until(once, "it answers")
    assert answer is not None
    return answer


@contextmanager
def tree(home: Path, *arguments: str) -> Iterator[Tree]:
    """Its temporary files are in a directory of its own, beside `home`."""
    temporary(home).mkdir(exist_ok=True)
    command = [COMMAND, "serve", "--workers", str(WORKERS), "--port", "0", *arguments]
    with running(*command, cwd=home, TMPDIR=str(temporary(home))) as process:
        yield Tree(process)


def temporary(home: Path) -> Path:
    return home / "temporary"


def all_ended(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def left_over(home: Path) -> list[Path]:
    return list(temporary(home).glob("asgi-audit-metrics-*"))


@pytest.mark.full
def test_worker_and_indexer_that_are_killed_are_replaced_and_counters_never_decrease(tmp_path: Path) -> None:
    with tree(tmp_path) as serve:
        for _ in range(30):
            serve.ask()
        until(lambda: serve.number("asgi_audit_indexer_indexed_total") == 30, "what was asked is indexed")
        count = ("asgi_audit_api_request_seconds_count",)
        assert serve.number(*count, dialect="trail", status="200") == 30
        for round_ in range(1, 3):
            victims = serve.workers()[:2]
            for victim in victims:
                victim.kill()
            # The socket is shared: other workers accept its clients meanwhile.
            serve.ask()
            until(
                lambda n=2 * round_: serve.number("asgi_audit_serve_restarts_total", part="worker") == n,  # type: ignore[misc]
                "they are replaced",
            )
            until(lambda: serve.number("asgi_audit_serve_workers") == WORKERS, "they answer")
            assert serve.number(*count, dialect="trail", status="200") == 30 + round_
        serve.indexer().kill()
        until(lambda: serve.number("asgi_audit_serve_restarts_total", part="indexer") == 1, "the indexer is replaced")
        until(lambda: serve.get("/health/ready").status_code == 200, "it is ready")
        # Every query so far was recorded by some worker, some of which were killed. The record of this query itself
        # comes later.
        asked = serve.asked
        until(lambda: serve.found() >= asked, "nothing is missing")
        assert serve.command.stop() == 0
        assert "Traceback" not in serve.command.said


@pytest.mark.full
def test_sigterm_ends_the_whole_tree_and_gives_the_lease_back(tmp_path: Path) -> None:
    with tree(tmp_path) as serve:
        children = serve.parent.children(recursive=True)
        assert len(children) == WORKERS + 2  # the indexer and the exporter
        assert len(left_over(tmp_path)) == 1
        serve.ask()
        assert serve.command.stop() == 0
        assert all_ended(children)
        assert left_over(tmp_path) == []
    with running(COMMAND, "index", cwd=tmp_path) as index:
        index.wait_for("indexing from")
        assert index.stop() == 0


@pytest.mark.full
@pytest.mark.parametrize("is_stopped", [False, True])
def test_parent_that_is_killed_leaves_no_process_and_no_lease(tmp_path: Path, is_stopped: bool) -> None:
    """`is_stopped`: it got SIGSTOP before it was killed, so its children received nothing from it."""
    with tree(tmp_path) as serve:
        serve.ask()
        children = serve.parent.children(recursive=True)
        if is_stopped:
            serve.parent.send_signal(signal.SIGSTOP)
        serve.parent.kill()
        serve.command.stop()
        until(lambda: all_ended(children), "all children end")
        until(lambda: not left_over(tmp_path), "the directory of the histograms is removed")
    with running(COMMAND, "index", cwd=tmp_path) as index:
        index.wait_for("indexing from")
        assert index.stop() == 0


@pytest.mark.full
def test_bounds_of_refused_requests_hold_over_all_workers(tmp_path: Path) -> None:
    """Each from a connection of its own, so that all workers see some of them."""
    with tree(tmp_path) as serve:
        wrong = {"x-api-key": "aa_000000000000_" + "x" * 43}
        statuses = [httpx.post(f"{serve.url}/trail", json={}, headers=wrong, timeout=30).status_code for _ in range(50)]
        assert statuses == [401] * 30 + [429] * 20
        serve.ask()  # a valid key is never refused for it
        # One of the refusals over the bound is recorded.
        assert serve.number("asgi_audit_api_refusals_unrecorded_total") == 19
        assert serve.number("asgi_audit_api_in_flight") == 0
        assert serve.command.stop() == 0


def test_wrong_dialect_is_said_once_and_by_the_parent(tmp_path: Path) -> None:
    done = run("serve", "--workers", "2", "--port", "0", "--dialects", "usge", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean usage?" in done.stderr
    assert done.stderr.count("\n") == 1
