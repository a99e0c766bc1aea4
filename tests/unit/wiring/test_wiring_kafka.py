"""The counters of forwarding in an application's process, and an indexer that ends. No broker listens at Kafka's
port."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from pathlib import Path

import pytest
from tests.support.waiting import until

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from asgi_audit.errors import ConfigError
from asgi_audit.settings import Settings, make_settings
from asgi_audit.transport.kafka.forwarder import Forwarder
from asgi_audit.wiring import kafka
from asgi_audit.wiring.kafka import Forwarding, open_forwarder
from asgi_audit.wiring.operations import build_indexer, open_source, open_store_writer

COUNTERS = {"forward_acknowledged": 7, "forward_refused": 2, "forward_retries": 3, "lost_refused": 1}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings({}, home=str(tmp_path), transport="kafka://127.0.0.1:1/audit")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Forwarder]:
    """Every forwarder that is made; before it starts, each counts as if a broker had responded."""
    found: list[Forwarder] = []
    real = kafka._forwarder

    def counted(*arguments: object, **named: object) -> Forwarder:
        forwarder = real(*arguments, **named)  # type: ignore[arg-type]
        forwarder._counts.update(acknowledged=7, retries=3)
        forwarder._refusals.counts.update(refused=2, refused_records=1)
        found.append(forwarder)
        return forwarder

    monkeypatch.setattr(kafka, "_forwarder", counted)
    return found


def started(forwarding: Forwarding) -> None:
    forwarding.start(str(uuid.uuid4()))


def counters(forwarding: Forwarding) -> dict[str, int]:
    return {name: number for name, number in forwarding.stats().items() if name in COUNTERS}


def at_least(forwarding: Forwarding, times: int) -> None:
    shown = counters(forwarding)
    assert shown.keys() == COUNTERS.keys()
    assert shown["forward_retries"] >= 3 * times  # no broker responds: it keeps counting
    rest = {name: number for name, number in shown.items() if name != "forward_retries"}
    assert rest == {name: COUNTERS[name] * times for name in rest}


def test_counters_of_forwarding_stay_when_it_ended(settings: Settings, made: list[Forwarder]) -> None:
    forwarding = Forwarding(settings)
    assert forwarding.stats() == {}
    started(forwarding)
    forwarding.closed(0.0, True)
    assert made[0].join(60)
    at_least(forwarding, 1)
    assert forwarding.stats()["forward_connected"] == 0
    forwarding.closed(0.0, False)
    forwarding.closed(0.0, True)
    at_least(forwarding, 1)


def test_forward_says_which_flag_is_missing(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"^no Kafka topic is set to send the journal to") as none:
        open_forwarder(dataclasses.replace(settings, transport=""), drain=True)
    assert "--to kafka://" in none.value.hint
    with pytest.raises(ConfigError, match=r"^'journal:////j' is not a Kafka topic"):
        open_forwarder(dataclasses.replace(settings, transport="journal:////j"), drain=True)


def test_held_reason_the_journal_is_named(settings: Settings, made: list[Forwarder]) -> None:
    """No broker responds. The log line of a full journal must not recommend an indexer, which would empty nothing
    here."""
    forwarding = Forwarding(settings)
    assert forwarding.held_reason() == "nothing is sent to Kafka yet."
    started(forwarding)
    try:
        assert forwarding.held_reason().startswith("Kafka accepts no records: ")
    finally:
        forwarding.closed(0.0, True)
    assert made[0].join(60)


def test_counters_of_forwarding_go_on_when_the_journal_is_opened_anew(
    settings: Settings, made: list[Forwarder]
) -> None:
    forwarding = Forwarding(settings)
    try:
        for times in (1, 2, 3):
            started(forwarding)
            at_least(forwarding, times)
    finally:
        forwarding.closed(0.0, True)
    assert all(forwarder.join(60) for forwarder in made)
    at_least(forwarding, 3)


def test_counters_of_forwarding_go_on_when_the_forwarder_before_counts_on(
    settings: Settings, made: list[Forwarder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its broker does not respond, and batches in flight may still be acknowledged."""
    forwarding = Forwarding(settings)
    try:
        started(forwarding)
        with monkeypatch.context() as patch:
            patch.setattr(made[0], "join", lambda _: False)
            started(forwarding)
        at_least(forwarding, 2)
        made[0]._counts["acknowledged"] += 5
        assert forwarding.stats()["forward_acknowledged"] == 19
        assert made[0].join(60)
        started(forwarding)
        assert forwarding.stats()["forward_acknowledged"] == 26
    finally:
        forwarding.closed(0.0, True)
    assert all(forwarder.join(60) for forwarder in made)


def test_counters_of_forwarding_begin_anew_when_the_process_is_another(
    settings: Settings, made: list[Forwarder]
) -> None:
    forwarding = Forwarding(settings)
    try:
        started(forwarding)
        forwarding._pid = -7  # as a child finds it after fork
        assert forwarding.stats() == {}
        started(forwarding)
        at_least(forwarding, 1)
    finally:
        made[0].stop(0.0)
        forwarding.closed(0.0, True)
    assert all(forwarder.join(60) for forwarder in made)


def test_indexer_ends_when_it_is_told_to_while_kafka_is_away(settings: Settings) -> None:
    writer, source, stop = open_store_writer(settings), open_source(settings), threading.Event()
    indexer = threading.Thread(target=build_indexer(settings, writer, stop=stop, source=source).run, daemon=True)
    try:
        indexer.start()
        stop.set()
        indexer.join(60)
        assert not indexer.is_alive()
    finally:
        stop.set()
        source.close()
        writer.close()


def test_forwarder_is_started_again_when_its_thread_breaks(
    settings: Settings, made: list[Forwarder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread fails three times with an error that is not Kafka's; the fourth one stays. The counters continue."""
    monkeypatch.setattr(kafka, "_RESTART_SECONDS", (0.001, 0.01))
    real = Forwarder._connect

    async def breaks(self: Forwarder) -> None:
        if len(made) < 4:
            raise SystemExit("hunter2")
        await real(self)

    monkeypatch.setattr(Forwarder, "_connect", breaks)
    forwarding = Forwarding(settings)
    try:
        started(forwarding)
        until(lambda: forwarding.stats()["forward_restarts"] >= 3)
        at_least(forwarding, 4)
    finally:
        forwarding.closed(1.0, True)
    assert all(forwarder.join(60) for forwarder in made)
    assert len(made) == 4
    assert caplog.text.count("thread failed (SystemExit)") == 3
    assert "hunter2" not in caplog.text


def test_forwarder_is_not_started_again_when_the_process_ends(
    settings: Settings, made: list[Forwarder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "_RESTART_SECONDS", (60.0, 60.0))

    async def breaks(self: Forwarder) -> None:
        raise SystemExit

    monkeypatch.setattr(Forwarder, "_connect", breaks)
    forwarding = Forwarding(settings)
    started(forwarding)
    assert made[0].join(60)
    forwarding.closed(1.0, True)
    assert made[0]._thread.join(60), "the pause is cut short"
    assert len(made) == 1
