"""When days are purged: at the start, every hour, on request; and the effects of a wrong clock or a full disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from tests.support.memory_store import MemoryStore
from tests.support.records import DAY_MS, NOON, batch, record

from asgi_audit.errors import StoreError
from asgi_audit.indexing.retention import Retention
from asgi_audit.store.maintenance import Purged
from asgi_audit.store.sqlite import SqliteWriter

MIDNIGHT = NOON - DAY_MS // 2


class Store(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.purges: list[int] = []
        self.asked: int | None = None
        self.believed: float | None = None
        self.fail: list[Exception] = []

    def purge(self, before: int) -> Purged:
        if self.fail:
            raise self.fail.pop(0)
        self.purges.append(before)
        self.asked = None
        return Purged(before, 1, 4096)

    def purge_asked(self) -> int | None:
        return self.asked

    def last_believed(self) -> float | None:
        return self.believed

    def note_believed(self, at: float) -> None:
        self.believed = at


class Time:
    """A wall clock and a monotonic clock that a test moves, together or separately."""

    def __init__(self) -> None:
        self.wall = NOON / 1000
        self.mono = 100.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


def make(store: Store, time: Time, days: int) -> Retention:
    return Retention(store, days=days, clock=lambda: time.wall, monotonic=lambda: time.mono)


def test_days_are_purged_at_the_start_and_once_an_hour_when_a_retention_is_set() -> None:
    store, time = Store(), Time()
    retention = make(store, time, 30)
    for _ in range(2 * 3600):
        retention.tend()
        time.passes(1)
    assert store.purges == [MIDNIGHT - 30 * DAY_MS] * 2
    time.passes(86_400)
    retention.tend()
    assert store.purges[-1] == MIDNIGHT - 29 * DAY_MS


def test_nothing_is_purged_by_itself_when_no_retention_is_set() -> None:
    store, time = Store(), Time()
    retention = make(store, time, 0)
    for _ in range(3):
        time.passes(3601)
        retention.tend()
    assert store.purges == []
    store.asked = MIDNIGHT
    time.passes(1)
    retention.tend()
    assert store.purges == [MIDNIGHT]


@pytest.mark.parametrize("restarted", [True, False])
def test_clock_that_jumped_ahead_is_not_believed_for_an_hour(restarted: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A clock that is wrong at boot, and one that is set wrong while the indexer runs: nothing is purged until the
    clock has stayed the same for an hour."""
    store, time = Store(), Time()
    if restarted:
        store.believed = time.wall
        time.wall += 400 * 86_400
        retention = make(store, time, 30)
    else:
        retention = make(store, time, 30)
        retention.tend()
        time.wall += 400 * 86_400
        time.passes(3600)
    store.purges.clear()
    retention.tend()
    time.passes(3000)
    retention.tend()
    assert store.purges == []
    assert "400.0 days ahead" in caplog.text
    time.passes(600)
    retention.tend()
    assert len(store.purges) == 1


def test_clock_that_jumped_ahead_is_not_believed_when_the_indexer_is_restarted(tmp_path: Path) -> None:
    """On a real index, whose files get the wrong clock's times meanwhile; then the hour passes in one run."""
    time = Time()

    def opened() -> tuple[SqliteWriter, Retention]:
        writer = SqliteWriter(tmp_path / "index", clock=lambda: time.wall)
        return writer, Retention(writer, days=30, clock=lambda: time.wall, monotonic=lambda: time.mono)

    def days() -> list[str]:
        return sorted(p.name for p in (tmp_path / "index").glob("day-*.db"))

    writer, retention = opened()
    writer.write(batch([record(1)]))
    retention.tend()
    writer.close()
    time.wall += 400 * 86_400
    for n in range(3):
        writer, retention = opened()
        writer.write(batch([record(n + 2, timestamp=int(time.wall * 1000))]))
        retention.tend()
        writer.close()
        for path in (tmp_path / "index").iterdir():
            os.utime(path, (time.wall, time.wall))  # as this clock shows it
        time.passes(60)
    assert len(days()) == 2
    writer, retention = opened()
    retention.tend()
    time.passes(3600)
    retention.tend()
    assert len(days()) == 1
    writer.close()
    time.passes(60)
    writer, retention = opened()
    assert writer.last_believed() == time.wall - 60
    writer.close()


@pytest.mark.parametrize("days", [0, 30])
def test_time_is_believed_each_hour_with_and_without_a_retention(days: int) -> None:
    store, time = Store(), Time()
    retention = make(store, time, days)
    retention.tend()
    assert store.believed == time.wall
    time.passes(3600)
    retention.tend()
    assert store.believed == time.wall


def test_full_disk_is_purged_before_the_time_is_noted() -> None:
    class Full(Store):
        def note_believed(self, at: float) -> None:
            if not self.purges:
                raise StoreError("disk full")
            super().note_believed(at)

    store, time = Full(), Time()
    make(store, time, 30).tend()
    assert (len(store.purges), store.believed) == (1, time.wall)


def test_clock_that_was_set_right_again_purges_by_the_right_one() -> None:
    store, time = Store(), Time()
    store.believed = time.wall
    time.wall += 400 * 86_400
    retention = make(store, time, 30)
    retention.tend()
    time.wall -= 400 * 86_400
    time.passes(3600)
    retention.tend()
    assert store.purges == [MIDNIGHT - 30 * DAY_MS]


def test_purge_is_tried_again_and_said_once_when_the_disk_fails(caplog: pytest.LogCaptureFixture) -> None:
    store, time = Store(), Time()
    store.fail = [StoreError("disk full"), StoreError("disk full")]
    retention = make(store, time, 1)
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            retention.tend()
            time.passes(1)
    assert store.purges == [MIDNIGHT - DAY_MS]
    assert caplog.text.count("disk full") == 1
    assert "purged 1 days, 4,096 bytes: older than 1 days" in caplog.text


def test_error_that_waiting_cannot_mend_ends_the_loop() -> None:
    store, time = Store(), Time()
    store.fail = [StoreError("damaged", retriable=False)]
    with pytest.raises(StoreError, match="damaged"):
        make(store, time, 1).tend()


def test_who_keeps_incidents_is_told_of_the_horizon_when_days_were_purged() -> None:
    store, time, told = Store(), Time(), []
    store.asked = NOON
    Retention(store, clock=lambda: time.wall, monotonic=lambda: time.mono, on_purged=told.append).tend()
    assert told == [NOON]
