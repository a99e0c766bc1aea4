"""The rows of the Kafka fault table: the fault of each. Each row returns the accounting of its records.

A row sets `wrong` when something forbidden happened; the accounting itself checks for every row that seen, given,
indexed, stated lost and missing agree. `tiny` shortens waits, never the fault."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fault.kafka_rig import Account, Load, Process, Rig, percentile
from tests.support.kafka import LocalKafka
from tests.support.ports import free_port
from tests.support.waiting import until

__all__ = ["ROWS", "Row"]

Run = Callable[[Rig, random.Random, bool], Account]


@dataclass(frozen=True)
class Row:
    """`brokers` of the cluster. `tiny`: runs in the test suite. `may_miss`: records that Kafka itself lost."""

    name: str
    text: str
    run: Run
    brokers: int = 1
    tiny: bool = False
    may_lose: bool = False
    may_miss: bool = False
    topic: tuple[tuple[str, str], ...] = ()

    def measure(self, cluster: LocalKafka, directory: Path, seed: int, *, tiny: bool) -> Account:
        """Raises AssertionError when the row cannot be completed."""
        rig = Rig(cluster, directory, seed, **dict(self.topic))
        try:
            account = self.run(rig, random.Random(f"{seed}.{self.name}"), tiny)
        except (AssertionError, OSError) as e:
            raise AssertionError(f"{e}\n{rig.logs()}") from e
        finally:
            rig.close()
        if account.missing and not self.may_miss:
            account.wrong.append(f"{account.missing} are missing, and nobody stated them lost")
        if account.lost and not self.may_lose:
            account.wrong.append(f"{account.lost} are stated lost")
        return account


ROWS: dict[str, Row] = {}


def row(name: str, text: str, **options: Any) -> Callable[[Run], Run]:
    def keep(run: Run) -> Run:
        ROWS[name] = Row(name, text, run, **options)
        return run

    return keep


@row("broker-kill", "the broker is killed (-9) and started again", tiny=True)
def broker_kill(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    _, app, load = _begun(rig)
    _run_for_some(choice, 0.5, 1.5)
    rig.cluster.kill()
    _last(1 if tiny else 10)
    rig.cluster.restart()
    load.wait_for(50)
    return _end(rig, app)


@row(
    "app-kill-buffered",
    "the application is killed (-9); started again, it sends what it left",
    tiny=True,
    may_lose=True,
)
def app_kill_buffered(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    rig.sidecar()
    app, port = rig.app()
    load = rig.load(port, rate=400)
    _run_for_some(choice, 0.5, 1.5)
    app.kill()
    load.stop()
    journal = rig.homes[0] / "journal"
    (left,) = (name for name in os.listdir(journal) if not name.startswith("."))
    app, port = rig.app(home=rig.homes[0])
    rig.load(port).wait_for(20)
    until(lambda: left not in os.listdir(journal), "the predecessor's journal is sent and removed")
    return _end(rig, app)


@row("app-kill-durable", "the same with durable delivery; `asgi-audit forward --once` sends what it left", tiny=True,
     may_lose=True)  # fmt: skip
def app_kill_durable(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    rig.sidecar()
    app, port = rig.app(ASGI_AUDIT_DELIVERY="durable")
    load = rig.load(port, rate=400)
    _run_for_some(choice, 0.5, 1.5)
    app.kill()
    load.stop()
    account = rig.settle()
    if account.unseen:
        account.wrong.append(f"{account.unseen} requests that a client saw answered have no record")
    return account


@row("sidecar-kill", "the sidecar is killed (-9) again and again while it indexes", tiny=True)
def sidecar_kill(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    app, port = rig.app()
    rig.load(port, rate=400)
    times = 3 if tiny else 15
    for _ in range(times):
        sidecar = rig.sidecar()
        before = rig.indexed()
        until(lambda before=before: rig.indexed() > before, "it indexes")  # type: ignore[misc]
        _run_for_some(choice, 0.0, 0.3)
        sidecar.kill()
    rig.sidecar()
    account = _end(rig, app)
    account.notes.append(f"killed {times} times")
    return account


@row("standby", "of two sidecars the one that writes is killed (-9)", tiny=True)
def standby(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    app, port = rig.app()
    rig.load(port)
    first = rig.sidecar()
    until(lambda: rig.indexed() > 0, "the first one indexes")
    metrics = free_port()
    second = rig.sidecar("--metrics-port", str(metrics))
    until(lambda: "waiting to take over" in second.said, "the second one waits")
    ready = until(lambda: _status(f"http://127.0.0.1:{metrics}/health/ready"), "the standby answers")
    _run_for_some(choice, 0.5, 1.0)
    first.kill()
    began = time.monotonic()
    before = rig.indexed()
    until(lambda: rig.indexed() > before, "the second one indexes")
    took = time.monotonic() - began
    account = _end(rig, app)
    account.notes.append(f"taken over after {took:.1f} s")
    if ready != 200:
        account.wrong.append(f"the standby is not ready: {ready}")
    if took > 15 and not tiny:
        account.wrong.append("taking over took more than 15 s")
    return account


@row("brokers-away", "all brokers are away while the application serves", tiny=True)
def brokers_away(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    _, app, load = _begun(rig)
    calm = 3.0 if tiny else 30.0
    _last(1.5 if tiny else 10)  # warm
    began = time.monotonic()
    _last(calm)
    memory = app.memory
    rig.cluster.kill()
    away = time.monotonic()
    _last(5 if tiny else 120)
    back = time.monotonic()
    grown = app.memory - memory
    rig.cluster.restart()
    load.wait_for(50)
    account = _end(rig, app)
    before, during = (percentile(load.between(*span), 0.99) * 1000 for span in ((began, away), (away, back)))
    account.notes.append(f"p99 {before:.1f} ms before, {during:.1f} ms while away; {grown >> 10} KiB more memory")
    if grown > 32 << 20:
        account.wrong.append(f"the application's memory grew by {grown >> 20} MiB")
    if not tiny and during > before * 1.1 and during > before + 1:
        account.wrong.append("its p99 rose by more than 10 %")
    return account


@row("topic-remade", "the topic is deleted and made again while records flow", tiny=True, may_miss=True)
def topic_remade(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    _, app, load = _begun(rig, indexed=50)
    rig.delete_topic()
    _run_for_some(choice, 0.2, 1.0)
    rig.make_topic()
    load.wait_for(100)
    account = _end(rig, app)
    if not account.incidents.get("topic_recreated"):
        account.wrong.append(f"no incident says that the topic was deleted and made again: {account.incidents}")
    return account


@row("retention", "the topic's retention passes a sidecar that stands still", may_miss=True,
     topic=(("segment.ms", "500"), ("retention.ms", "86400000"), ("file.delete.delay.ms", "100")))  # fmt: skip
def retention(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    sidecar, app, load = _begun(rig, indexed=50)
    sidecar.stop()
    load.wait_for(400)
    _alter(rig, {"retention.ms": "1000"})
    until(lambda: max(_beginnings(rig)) > 250, "retention took what nobody had read")
    _alter(rig, {"retention.ms": "86400000"})
    rig.sidecar()
    load.wait_for(100)
    account = _end(rig, app)
    if not account.incidents.get("retention_passed"):
        account.wrong.append(f"no incident says that a range was lost: {account.incidents}")
    if not account.missing:
        account.wrong.append("nothing is missing, although the topic threw records away")
    return account


@row("broker-stop", "the broker is stopped in its tracks (SIGSTOP) and goes on")
def broker_stop(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    _, app, load = _begun(rig)
    _run_for_some(choice, 0.5, 1.5)
    rig.cluster.pause()
    _last(5 if tiny else 60)
    rig.cluster.resume()
    load.wait_for(50)
    return _end(rig, app)


@row("leader-kill", "in a cluster of three the leader of the process's partition is killed (-9)", brokers=3)
def leader_kill(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    _, app, load = _begun(rig, indexed=50)
    partitions = rig.admin("describe_topics", [rig.topic])[0]["partitions"]
    leader = max((p["leader"] for p in partitions), key=[p["leader"] for p in partitions].count)
    rig.cluster.kill(leader)
    began, before = time.monotonic(), rig.indexed()
    until(lambda: rig.indexed() > before + 200, "the others take over")
    took = time.monotonic() - began
    rig.cluster.restart(leader)
    load.wait_for(50)
    account = _end(rig, app)
    account.notes.append(f"200 more were indexed {took:.1f} s after the kill")
    return account


@row("journal-full", "the disk of the journal is full while the broker is away", may_lose=True)
def journal_full(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    rig.sidecar()
    home = rig.directory / "small"
    with _small_disk(home, 3):
        app, port = rig.app(home=home, FAULT_SEGMENT_BYTES="262144")
        load = rig.load(port, rate=300)
        until(lambda: rig.indexed() > 50, "some are indexed")
        rig.cluster.kill()
        until(
            lambda: os.statvfs(home).f_bavail == 0 or "lost" in app.said or "full" in app.said, "the disk is full", 120
        )
        _last(2)
        rig.cluster.restart()
        load.wait_for(300)
        account = _end(rig, app)
    account.notes.append("the application answered all the time" if not load.wrong else "it did not answer")
    return account


@row("index-full", "the disk of the index is full; room is made")
def index_full(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    with _small_disk(rig.index, 12):
        sidecar, app, load = _begun(rig, indexed=50)
        filler = rig.index / "filler"
        with contextlib.suppress(OSError), filler.open("wb", 0) as file:
            while True:
                file.write(bytes(4096))
        until(lambda: "trying again until it works" in sidecar.said, "the sidecar waits")
        load.wait_for(200)
        filler.unlink()
        account = _end(rig, app)
    if account.dead:
        account.wrong.append(f"{account.dead} dead letters")
    return account


@row("clock", "the application's clock is two hours ahead and jumps back")
def clock(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    bent = rig.directory / "clock"
    bent.write_text("7200")
    _, app, load = _begun(rig, indexed=200, FAULT_CLOCK=str(bent))
    bent.write_text("0")
    load.wait_for(300)
    account = _end(rig, app)
    if account.dead:
        account.wrong.append(f"{account.dead} dead letters")
    return account


@row("poison", "not JSON, a wrong schema, 20 MB, empty, a tombstone: in every partition, between ours", tiny=True,
     topic=(("max.message.bytes", "33554432"),))  # fmt: skip
def poison(rig: Rig, choice: random.Random, tiny: bool) -> Account:
    sidecar, app, load = _begun(rig, indexed=20)
    values = [b"no json", b'{"account_id":"a","n":1}', b'{"big":"' + b"x" * 20_000_000 + b'"}', b"", None]
    for partition in range(3):
        choice.shuffle(values)
        _send(rig, values, partition)
        load.wait_for(20)
    account = _end(rig, app)
    account.notes.append(f"{account.dead} dead letters")
    if account.dead != 15:
        account.wrong.append(f"{account.dead} dead letters in place of 15")
    if sidecar.process.poll() is not None:
        account.wrong.append("the sidecar ended")
    return account


def _run_for_some(choice: random.Random, least: float, most: float) -> None:
    """Waits; the moment of a fault is an input."""
    time.sleep(choice.uniform(least, most))


def _last(seconds: float) -> None:
    """Waits; the duration of a fault, or of the measurement beside it, is an input."""
    time.sleep(seconds)


def _begun(rig: Rig, *, indexed: int = 0, **environment: Any) -> tuple[Process, Process, Load]:
    """A sidecar, an application and its load; returns once more than `indexed` records are in the index."""
    sidecar = rig.sidecar()
    app, port = rig.app(**environment)
    load = rig.load(port)
    until(lambda: not indexed or rig.indexed() > indexed, f"{indexed} are indexed")
    return sidecar, app, load


def _end(rig: Rig, app: Process) -> Account:
    """Stops the loads, ends the application, and takes the accounting."""
    for load in rig.loads:
        load.stop()
    app.stop()
    return rig.settle()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        e.close()
        return e.code
    except OSError:
        return 0


@contextlib.contextmanager
def _small_disk(path: Path, mebibytes: int) -> Iterator[None]:
    path.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)], capture_output=True)
    if done.returncode:
        raise OSError("this row needs a small tmpfs: run as root, in a container with --privileged")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _alter(rig: Rig, configs: dict[str, str]) -> None:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    rig.admin("alter_configs", [ConfigResource(ConfigResourceType.TOPIC, rig.topic, configs=configs)])


def _run(work: Any) -> Any:
    from asgi_audit.transport.kafka.client import run_bounded

    return run_bounded(work, 60, "fault")


def _beginnings(rig: Rig) -> list[int]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def work() -> list[int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=rig.cluster.address)
        await consumer.start()
        try:
            return list((await consumer.beginning_offsets([TopicPartition(rig.topic, n) for n in range(3)])).values())
        finally:
            await consumer.stop()

    found: list[int] = _run(work)
    return found


def _send(rig: Rig, values: list[bytes | None], partition: int) -> None:
    """Sends by another program than ours."""
    from aiokafka import AIOKafkaProducer

    async def work() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=rig.cluster.address, acks="all", max_request_size=32 << 20)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(rig.topic, value, json.dumps(partition).encode(), partition)
        finally:
            await producer.stop()

    _run(work)
