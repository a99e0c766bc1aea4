"""The parent of `serve --workers N`; its children are small programs that the test writes."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.waiting import until

from asgi_audit.cli import workers
from asgi_audit.cli.processes import Child
from asgi_audit.cli.workers import Workers, settings_as_json
from asgi_audit.settings import Settings, make_settings
from asgi_audit.wiring.shared_memory import SharedMemory, Text

BEATING = """
import json, os, sys
from asgi_audit.wiring.shared_memory import SharedMemory
given = json.loads(sys.stdin.readline())
memory = SharedMemory(given["memory"], given["workers"], given["slot"])
memory.beat()
print("beating", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def metrics() -> Iterator[Text]:
    made = Text.make()
    yield made
    made.close()


class Programs(Workers):
    """Workers that run `code`. `logs`: the output of each."""

    def __init__(self, directory: Path, code: str, listening: socket.socket, metrics: Text, count: int = 2) -> None:
        super().__init__(Settings(workers=count), listening, {}, metrics)
        self.directory = directory
        self.started: list[int] = []
        (directory / "program.py").write_text(code)

    def _start(self, slot: int) -> Child:
        self.started.append(slot)
        given = {"slot": slot, "workers": self._settings.workers, "memory": self._memory.fd}
        return Child(
            f"worker {slot + 1}",
            "program",
            [],
            log=self.directory / f"{slot}.log",
            environment={**os.environ, "PYTHONPATH": str(self.directory)},
            first_line=json.dumps(given),
            descriptors=[self._memory.fd],
        )


def test_workers_that_cannot_begin_end_the_command_and_are_not_tried_again(
    tmp_path: Path, listening: socket.socket, metrics: Text
) -> None:
    made = Programs(tmp_path, "import sys; sys.exit('no such thing')", listening, metrics)
    assert made.run(threading.Event()) == 1
    assert sorted(made.started) == [0, 1]


def test_worker_whose_loop_stands_is_killed_and_replaced_and_holds_nothing(
    tmp_path: Path, listening: socket.socket, metrics: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Programs(tmp_path, BEATING, listening, metrics, count=1)
    code: list[int] = []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: code.append(made.run(stop)))
    thread.start()
    looker = SharedMemory(made._memory.fd, 1)
    until(lambda: looker.measures()["asgi_audit_serve_workers"] == 1.0)
    SharedMemory(made._memory.fd, 1)._words[made._memory._bases[0] + 16] = 9  # a response in flight
    monkeypatch.setattr(workers, "STUCK_SECONDS", 0.0)
    until(lambda: len(made.started) == 2)
    monkeypatch.setattr(workers, "STUCK_SECONDS", 60.0)
    until(lambda: looker.measures()["asgi_audit_serve_restarts"] == {"exporter": 0.0, "indexer": 0.0, "worker": 1.0})
    assert looker._words[made._memory._bases[0] + 16] == 0
    stop.set()
    thread.join(60)
    assert code == [0]


def test_settings_reach_a_worker_whole(tmp_path: Path) -> None:
    settings = make_settings(
        {},
        home=tmp_path,
        transport="kafka://broker:9092/topic",
        kafka_password="secret",
        kafka_ca_file="ca.pem",
        dialects="usage,trail",
        dialect_hosts="a.example.com=usage",
        request_id_header="",
        workers=4,
    )
    given = json.loads(json.dumps(settings_as_json(settings)))
    assert make_settings({}, **given) == settings
    assert make_settings({}, **json.loads(json.dumps(settings_as_json(Settings())))) == Settings()
