"""Threads, loops and log lines that the forwarder and the source share."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from asgi_audit.errors import ConfigError, TransportError
from asgi_audit.transport.kafka import client
from asgi_audit.transport.kafka.topics import TopicFound, TopicWanted


def test_vendor_lines_are_dropped_from_our_threads_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main(stop: asyncio.Event) -> None:
        logging.getLogger("aiokafka.conn").debug("SaslAuthenticate(s3cret)")
        logging.getLogger("aiokafka").error("ours")
        logging.getLogger("asgi_audit.transport.kafka").warning("told")

    thread = client.LoopThread("t", main)
    thread.start()
    assert thread.join(60)
    logging.getLogger("aiokafka").error("the application's own")
    assert [r.getMessage() for r in caplog.records if r.name != "asyncio"] == ["told", "the application's own"]


def test_thread_ends_when_its_tasks_refuse_to_be_cancelled() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                if time.monotonic() > deadline:
                    raise

    deadline = time.monotonic() + 0.3
    tasks = []

    async def main(stop: asyncio.Event) -> None:
        tasks.append(asyncio.create_task(stubborn()))
        await stop.wait()
        while not tasks[0].done() and time.monotonic() < deadline + 0.1:
            tasks[0].cancel()
            await asyncio.sleep(0.05)

    thread = client.LoopThread("t", main)
    thread.start()
    thread.ask()
    assert thread.join(60)


def test_ask_before_the_start_is_not_forgotten() -> None:
    ended = threading.Event()

    async def main(stop: asyncio.Event) -> None:
        await stop.wait()
        ended.set()

    thread = client.LoopThread("t", main)
    thread.ask()
    thread.start()
    assert ended.wait(60)
    assert thread.join(60)
    thread.call_soon(lambda: None)  # no loop to run it any more


def test_run_bounded_raises_in_time_when_nothing_answers() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TransportError, match="describe: no response in time"):
        client.run_bounded(hangs, 0.1, "describe")


def test_run_bounded_lets_our_own_errors_pass_when_called_inside_a_loop() -> None:
    async def wrong() -> None:
        raise ConfigError("no")

    async def main() -> None:
        with pytest.raises(ConfigError, match="no"):
            client.run_bounded(wrong, 1, "x")

    asyncio.run(main())


def test_compression_is_a_codec_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "has_zstd", lambda: True)
    assert client.compression() == "zstd"
    monkeypatch.setattr(client, "has_zstd", lambda: False)
    assert client.compression() is None


def _found(**settings: str) -> TopicFound:
    names = {k.replace("_", "."): v for k, v in settings.items()}
    return TopicFound("c", 3, 6, 3, 3, 0, {"min.insync.replicas": "2", "retention.ms": "604800000", **names})


@pytest.mark.parametrize(
    ("found", "setting", "severe"),
    [
        (_found(min_insync_replicas="1"), "min.insync.replicas", True),
        (_found(min_insync_replicas="3"), "min.insync.replicas", False),
        (_found(cleanup_policy="compact,delete"), "cleanup.policy", True),
        (_found(unclean_leader_election_enable="true"), "unclean.leader.election.enable", True),
        (_found(retention_ms="60000"), "retention.ms", True),
        (_found(message_timestamp_type="CreateTime"), "message.timestamp.type", False),
        (_found()._replace(replication=1), "replication", True),
    ],
)
def test_check_topic_explains_one_setting_when_one_differs(found: TopicFound, setting: str, severe: bool) -> None:
    differences = found.differences(TopicWanted())
    assert (differences[0].setting, differences[0].severe) == (setting, severe)
    assert differences[0].why


def test_check_topic_finds_nothing_when_all_is_well() -> None:
    assert _found().differences(TopicWanted()) == []


def test_topic_wanted_is_refused_when_nothing_could_ever_be_written() -> None:
    with pytest.raises(ConfigError, match="so nothing could be written"):
        TopicWanted(replication=2, min_insync=3)
    with pytest.raises(ConfigError, match="partitions"):
        TopicWanted(partitions=0)


def test_thread_does_nothing_more_when_it_is_parked_and_the_process_ends_by_itself() -> None:
    program = """
import asyncio, sys
from asgi_audit.transport.kafka.client import LoopThread

rounds = 0

async def busy(stop):
    global rounds
    while True:
        rounds += 1
        await asyncio.sleep(0)

thread = LoopThread("busy", busy)
thread.start()
while not rounds:
    pass
assert not thread.join(0.05)
assert thread.park(60)
before = rounds
assert not thread.join(0.05) and rounds == before
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, "")
