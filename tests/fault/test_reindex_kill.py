"""kill -9 of a real `asgi-audit reindex` at random moments, beside a writer that adds late records to the day."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.support.days import days_of_version_1
from tests.support.records import DAY_MS, NOON, batch, everything, record, walk

from asgi_audit.store.sqlite import SqliteReader, SqliteWriter

YESTERDAY = NOON - DAY_MS
RECORDS, LATE = 20_000, 400


def clock() -> float:
    return NOON / 1000


@pytest.mark.full
def test_day_is_whole_when_reindex_is_killed(tmp_path: Path) -> None:
    """Goal: nothing is lost, repeated or changed. Method: each run is killed within the time of a whole one; the
    reader's results are compared after each; the last run may finish."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    index = tmp_path / "index"
    with days_of_version_1():
        writer = SqliteWriter(index, clock=clock)
        expected = {}
        for first in range(1, RECORDS, 4_000):
            made = [record(s, YESTERDAY + s * 1_000, route="/orders") for s in range(first, first + 4_000)]
            writer.write(batch(made))
            expected |= {d.sequence: d.data for d in made}
    written = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        """As the indexer does: late records, and requests handled between them."""
        sequence = RECORDS
        try:
            while not written.wait(0.005):
                if sequence < RECORDS + LATE:
                    sequence += 1
                    late = record(sequence, YESTERDAY + rng.randrange(DAY_MS // 2), route="/late")
                    writer.write(batch([late]))
                    expected[sequence] = late.data
                writer.take_reindexed()
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=write)
    thread.start()
    reader = SqliteReader(index)
    command = [sys.executable, "-m", "asgi_audit", "reindex", "--day", "2026-11-21", "--store", f"sqlite:///{index}"]
    try:
        for _ in range(6):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            assert process.stderr is not None
            process.stderr.readline()  # it has begun
            time.sleep(rng.random() * 1.5)  # the moment of the kill is an input
            process.kill()
            process.communicate()
            assert len(walk(reader, everything(end=YESTERDAY + DAY_MS, text="orders"), limit=1_000)) >= RECORDS
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    finally:
        written.set()
        thread.join()
    assert not failed
    rows = walk(reader, limit=1_000)
    assert sorted(r.record for r in rows) == sorted(expected.values())
    assert len(walk(reader, everything(route="/orders"), limit=1_000)) == RECORDS
    assert reader.count(everything(), published=1 << 40) == len(expected)
    reader.close()
    writer.close()
    assert not list(index.glob("reindex-*"))
    assert len(list(index.glob("day-*.db"))) == 1
