"""Parts of the Kafka fault table's rows: an application under load, the sidecar, and the accounting at the end.

Everything is a process of its own, started as a user would start it. The accounting compares three independent sources:
the responses that clients saw, the sequences that the processes stated, and the index, read record by record.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.commands import COMMAND, clean_environment
from tests.support.kafka import LocalKafka
from tests.support.waiting import until

from asgi_audit.record.line import TIME_END

SECRET = "hunter2-horse"


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


class Load:
    """Connections that send `rate` requests a second in all until they are stopped; when the server is gone they try
    again. `seen` holds the ids of responses that were read to their end, `timed` when and how long (seconds)."""

    def __init__(self, port: int, seed: int, *, rate: float, connections: int = 4) -> None:
        self.port = port
        self.seen: list[str] = []
        self.timed: list[tuple[float, float]] = []
        self.wrong: list[str] = []
        self._name = f"{seed}-{uuid.uuid4().hex[:6]}"
        self._pause = connections / rate
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n, random.Random(f"{seed}.{n}"))) for n in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def between(self, start: float, end: float) -> list[float]:
        return [took for at, took in list(self.timed) if start <= at < end]

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        want = len(self.seen) + count
        until(lambda: len(self.seen) >= want, f"{count} more answers", seconds)

    def _run(self, number: int, choice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            self._send(connection, number, choice)
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, number: int, choice: random.Random) -> None:
        count = 0
        due = time.monotonic()
        while not self._stop.is_set():
            due = max(due + self._pause, time.monotonic() - 0.1)
            self._stop.wait(max(0.0, due - time.monotonic()))
            count += 1
            name = f"{self._name}-{number}-{count}"
            began = time.monotonic()
            try:
                if choice.random() < 0.7:
                    body = json.dumps({"password": SECRET, "n": count, "text": "x" * choice.randrange(1500)})
                    headers = {"X-Request-ID": name, "Content-Type": "application/json"}
                    connection.request("POST", "/orders", body, headers)
                else:
                    connection.request("GET", f"/items/{count}", headers={"X-Request-ID": name})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self._stop.wait(0.05)
                continue
            self.timed.append((began, time.monotonic() - began))
            self.seen.append(name)
            if answer.status != 200:
                self.wrong.append(f"{name} was answered {answer.status}")


class Process:
    """A child whose output goes to a file."""

    def __init__(self, arguments: list[str], log: Path, *, fds: tuple[int, ...] = (), **environment: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                arguments, env=clean_environment(**environment), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, pass_fds=fds, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self, seconds: float = 20.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.log.name} did not end within {seconds:g} s of SIGTERM:\n{self.said}") from None

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Account:
    """The accounting of one row: `seen` by clients, `given` sequences, `indexed` once, `lost` as stated, `missing`
    (neither), `twice` in the index, and notes."""

    seen: int = 0
    given: int = 0
    indexed: int = 0
    lost: int = 0
    missing: int = 0
    twice: int = 0
    unseen: int = 0  # seen by a client and not in the index
    open_count: int = 0
    dead: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    incidents: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Rig:
    """One row's topic, directories and processes; `close` ends what still runs."""

    def __init__(self, cluster: LocalKafka, directory: Path, seed: int, **topic: str | int) -> None:
        self.cluster = cluster
        self.directory = directory
        self.seed = seed
        self.index = directory / "index"
        self.url = f"kafka://{cluster.address}/t-{uuid.uuid4().hex[:10]}"
        self.homes: list[Path] = []
        self.loads: list[Load] = []
        self._processes: list[Process] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.make_topic(**topic)

    @property
    def topic(self) -> str:
        return self.url.rsplit("/", 1)[1]

    def make_topic(self, partitions: int = 3, **settings: str | int) -> None:
        configs = {key.replace("_", "."): str(value) for key, value in settings.items()}
        from aiokafka.admin import NewTopic

        replicas = min(3, len(self.cluster.brokers))
        until(
            lambda: self.admin("create_topics", [NewTopic(self.topic, partitions, replicas, topic_configs=configs)])
            .topic_errors[0][1] in (0, 36),
            "the topic is made",
        )  # fmt: skip
        until(
            lambda: (
                sum(p["leader"] != -1 for p in self.admin("describe_topics", [self.topic])[0]["partitions"])
                == partitions
            ),
            "the topic has leaders",
        )

    def delete_topic(self) -> None:
        self.admin("delete_topics", [self.topic])
        until(lambda: not self.admin("describe_topics", [self.topic])[0]["partitions"], "the topic is gone")

    def admin(self, method: str, *arguments: Any) -> Any:
        from aiokafka.admin import AIOKafkaAdminClient

        from asgi_audit.transport.kafka.client import run_bounded

        async def work() -> Any:
            client = AIOKafkaAdminClient(bootstrap_servers=self.cluster.address)
            await client.start()
            try:
                return await getattr(client, method)(*arguments)
            finally:
                await client.close()

        return run_bounded(work, 30, method)

    # Processes

    def app(self, *, home: Path | None = None, **environment: str) -> tuple[Process, int]:
        """uvicorn with the middleware, its transport Kafka; and its port."""
        home = home or self.directory / f"app-{len(self.homes)}"
        if home not in self.homes:
            home.mkdir(parents=True, exist_ok=True)
            self.homes.append(home)
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        os.set_inheritable(listening.fileno(), True)
        command = [sys.executable, "-m", "tests.fault.kafka_app", str(listening.fileno())]
        environment = {"ASGI_AUDIT_HOME": str(home), "ASGI_AUDIT_TRANSPORT": self.url} | environment
        number = len(self._processes)
        process = Process(
            command, self.directory / f"app-{number}.log", fds=(listening.fileno(),),
            PYTHONPATH=str(Path(__file__).parents[2]), **environment,
        )  # fmt: skip
        port = int(listening.getsockname()[1])
        listening.close()
        self._processes.append(process)
        return process, port

    def load(self, port: int, *, rate: float = 200.0) -> Load:
        load = Load(port, self.seed, rate=rate)
        self.loads.append(load)
        load.wait_for(5)
        return load

    def sidecar(self, *extra: str, **environment: str) -> Process:
        command = [COMMAND, "index", "--from", self.url, "--to", f"sqlite:///{self.index}", "--home"]
        command += [str(self.directory / "sidecar"), *extra]
        process = Process(command, self.directory / f"index-{len(self._processes)}.log", **environment)
        self._processes.append(process)
        return process

    def forward_once(self, home: Path) -> None:
        """Forwards what dead processes left behind."""
        done = subprocess.run(
            [COMMAND, "forward", "--once", "--from", f"journal:///{home / 'journal'}", "--to", self.url, "--seconds",
             "60", "--home", str(home)],
            env=clean_environment(), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"forward --once ended with {done.returncode}: {done.stderr[-800:]}")

    def close(self) -> None:
        for load in self.loads:
            load.stop()
        for process in self._processes:
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
                process.kill()

    # The accounting

    def indexed(self) -> int:
        return sum(p.indexed for p in self._known())

    def _known(self) -> list[Any]:
        """The processes in the index; [] while it is being created."""
        from asgi_audit.errors import StoreError

        reader = self._reader()
        if reader is None:
            return []
        try:
            return list(reader.processes())
        except StoreError:
            return []
        finally:
            reader.close()

    def _reader(self) -> Any:
        from asgi_audit.errors import StoreError
        from asgi_audit.wiring import environment, operations

        try:
            return operations.open_store_reader(environment.settings_from(store=f"sqlite:///{self.index}"))
        except StoreError:
            return None

    def settle(self, *, seconds: float = 90.0, drain: bool = True) -> Account:
        """Loads are stopped and applications ended; what they left is forwarded; a sidecar runs. Waits until the index
        has everything, and returns the accounting."""
        if drain:
            for home in self.homes:
                if (home / "journal").exists():
                    self.forward_once(home)
                    left = [p.name for p in (home / "journal").iterdir() if not p.name.startswith(".")]
                    assert not left, f"left in the journal: {left}"
        last: list[Any] = []

        def is_settled() -> bool:
            last[:] = processes = self._known()
            return bool(processes) and all(
                p.closed in ("adopted", "final") and p.indexed + p.lost + p.missing >= p.last for p in processes
            )

        try:
            until(is_settled, "everything is indexed, stated lost or missing", seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}; {last}; {self.logs()}") from None
        return self.account()

    def logs(self) -> str:
        return "\n".join(f"--- {p.log.name}\n{p.said[-1500:]}" for p in self._processes)

    def account(self) -> Account:
        from asgi_audit.store.base import Query

        reader = self._reader()
        assert reader is not None
        account = Account(seen=sum(len(load.seen) for load in self.loads))
        for load in self.loads:
            account.wrong += load.wrong
        ids: set[str] = set()
        pairs: dict[tuple[str, int], int] = {}
        before: int | None = None
        published = reader.snapshot().published
        query = Query(accounts=None, start=0, end=TIME_END)
        while True:
            rows, is_more = reader.page(query, published=published, before=before, limit=1000, bytes_max=8 << 20)
            for row in rows:
                record = json.loads(row.record)
                if SECRET.encode() in row.record:
                    account.wrong.append("a record holds the password")
                capture = record["context"]["capture"]
                pair = (capture["process"], capture["sequence"])
                pairs[pair] = pairs.get(pair, 0) + 1
                ids.add(record["metadata"]["requestId"])
            if not is_more:
                break
            before = rows[-1].id
        account.indexed = len(pairs)
        account.twice = sum(n - 1 for n in pairs.values())
        seen = {name for load in self.loads for name in load.seen}
        account.unseen = len(seen - ids)
        for p in reader.processes():
            have = sum(1 for name, _ in pairs if name == str(p.process))
            account.given += p.last
            account.lost += p.lost
            account.missing += p.missing
            account.open_count += p.open_count
            if have != p.indexed or have + p.lost + p.missing != p.last:
                account.wrong.append(
                    f"{p.process}: {have} indexed (it says {p.indexed}) + {p.lost} lost + {p.missing} missing, "
                    f"but {p.last} given"
                )
        for incident in reader.incidents(0, TIME_END):
            name = incident.kind + ("" if incident.resolved_at is None else " (resolved)")
            account.incidents[name] = account.incidents.get(name, 0) + 1
        account.dead = reader.dead_letters()
        reader.close()
        if account.twice:
            account.wrong.append(f"{account.twice} records are there twice")
        if account.unseen > account.lost + account.missing + account.open_count:
            account.wrong.append(f"{account.unseen} requests that a client saw answered are neither there nor stated")
        return account
