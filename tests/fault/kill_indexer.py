"""kill -9 of a real indexer at random moments, under load: `python -m tests.fault.kill_indexer --times 50`.

Goal: every record once, none missing, and cursors taken before a kill stay valid after it. Method: two processes fill a
real journal, with records of three days in turn, so that a batch is four transactions; an indexer process is killed at
a random moment after its start (while it starts, recovers, writes, commits, unlinks) and started again. Between kills,
pages are read with cursors held since earlier. In the end both writers close, an undisturbed indexer finishes, and the
index is compared with what was written.

Prints the seed and a table; exit code 1 when a number disagrees.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.records import DAY_MS, everything, payload, statement
from tests.support.waiting import until

from asgi_audit.errors import StoreError
from asgi_audit.indexing.indexer import Indexer
from asgi_audit.record.codec import decode
from asgi_audit.record.statement import encode_statement
from asgi_audit.store.base import Row
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.journal import JournalSource, JournalWriter

WRITERS = 2
_PAGE = 50


def write(root: Path, name: str, per_second: int) -> None:
    """Fill the journal until stdin ends; then close it and print the number of written records."""
    process = uuid.UUID(name)
    now = int(time.time() * 1000)
    journal = JournalWriter(
        root, ProcessFacts(process, "host", "gateway", now), bytes_max=1 << 30, segment_bytes=1 << 17
    )
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    sequence = number = stated = 0
    print("writing", flush=True)
    while not ended.is_set():
        entries = []
        for _ in range(per_second // 100):
            sequence += 1
            at = int(time.time() * 1000) - (sequence % 3) * DAY_MS
            entries.append(
                Entry(Kind.RECORD, sequence, payload(sequence, at, process=process, body="x" * (sequence % 700)))
            )
        if sequence - stated >= per_second:
            number += 1
            entries.append(_statement(process, number, stated, sequence, ""))
            stated = sequence
        journal.append(entries)
        ended.wait(0.01)
    journal.append([_statement(process, number + 1, stated, sequence, "final")])
    journal.sync()
    journal.close()
    print(sequence, flush=True)


def _statement(process: uuid.UUID, number: int, stated: int, sequence: int, closed: str) -> Entry:
    said = statement(number, stated + 1, sequence, process=process, closed=closed, service="gateway")
    return Entry(Kind.STATEMENT, sequence, encode_statement(said))


def index(root: Path, directory: Path, seed: int) -> None:
    """An indexer as `asgi-audit index` runs it, with small batches of a random size, so that there are more moments for
    a kill."""
    logging.basicConfig(level=logging.INFO, filename=directory.with_name("index.log"))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    writer = SqliteWriter(directory, wait_seconds=10, stop=stop)
    source = JournalSource(root, adopt_seconds=0.2)
    batch_max = random.Random(seed).choice((7, 60, 400, 4000))
    try:
        Indexer(source, writer, stop=stop, batch_max=batch_max).run()
    finally:
        source.close()
        writer.close()


class Cursor:
    """A list whose cursor is taken before some kills and continued after them, page by page."""

    def __init__(self, reader: SqliteReader) -> None:
        self.published = reader.snapshot().published
        self.rows: list[Row] = []
        self.is_done = False

    def step(self, reader: SqliteReader, pages: int = 1) -> None:
        while pages and not self.is_done:
            before = self.rows[-1].id if self.rows else None
            page, more = reader.page(
                everything(), published=self.published, before=before, limit=_PAGE, bytes_max=1 << 20
            )
            self.rows += page
            self.is_done = not more
            pages -= 1

    def fault(self, reader: SqliteReader) -> str:
        """The problem found at the end, or ''."""
        self.step(reader, pages=-1)
        ids = [r.id for r in self.rows]
        if ids != sorted(set(ids), reverse=True):
            return "repeated a row or left the order"
        whole, _ = reader.page(everything(), published=self.published, before=None, limit=1 << 30, bytes_max=1 << 40)
        return "" if [r.id for r in whole] == ids else f"skipped {len({r.id for r in whole} - set(ids))} rows"


def run(times: int, seed: int, *, per_second: int = 2000, home: Path) -> bool:
    """True when everything agrees."""
    print(f"kill_indexer: seed {seed}, {times} kills, {WRITERS} processes, {per_second} records a second each")
    rng = random.Random(seed)
    root, directory = home / "journal", home / "index"
    names = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(WRITERS)]
    writers = [_spawn("write", root, name, per_second, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for name in names]
    reader = SqliteReader(directory)
    cursors: list[Cursor] = []
    killed_at: Counter[str] = Counter()
    try:
        for w in writers:
            assert w.stdout is not None
            if w.stdout.readline() != b"writing\n":
                raise RuntimeError("a writer did not begin")
        for n in range(times):
            before = reader.snapshot().published
            indexer = _spawn("index", root, directory, rng.getrandbits(32))
            # The moment of the kill is an input. Some kills are at the start, most during full work.
            if n % 3 != 2:
                _wait(lambda low=before: reader.snapshot().published > low, indexer)
            time.sleep(rng.uniform(0.0, 0.5 if n % 3 == 2 else 0.3))
            os.kill(indexer.pid, signal.SIGKILL)
            indexer.wait()
            killed_at["while working" if reader.snapshot().published > before else "before its first batch"] += 1
            if len(cursors) <= n // 5:
                cursors.append(Cursor(reader))
            for cursor in cursors:
                cursor.step(reader, rng.randrange(3))
        expected = {}
        for name, w in zip(names, writers, strict=True):
            out, _ = w.communicate(timeout=60)
            expected[name] = int(out)
        last = _spawn("index", root, directory, 3)
        _wait(lambda: not [p for p in root.iterdir() if not p.name.startswith(".")], last)
        last.send_signal(signal.SIGTERM)
        last.wait(30)
        recovered = (home / "index.log").read_text().count("recovered ")
        print(f"starts that found an unfinished write: {recovered} of {times + 1}")
        return _compare(reader, expected, cursors, killed_at)
    finally:
        reader.close()
        for w in writers:
            w.kill()
            w.wait()
            for pipe in (w.stdin, w.stdout):
                if pipe is not None:
                    pipe.close()


def _compare(reader: SqliteReader, expected: dict[str, int], cursors: list[Cursor], killed_at: Counter[str]) -> bool:
    found: Counter[tuple[str, int]] = Counter()
    before: int | None = None
    published = reader.snapshot().published
    while True:
        page, more = reader.page(everything(), published=published, before=before, limit=5000, bytes_max=64 << 20)
        for row in page:
            d = decode(row.record)
            assert d.process is not None
            found[str(uuid.UUID(bytes=d.process)), d.sequence] += 1
        if not more:
            break
        before = page[-1].id
    counted = {str(p.process): p for p in reader.processes()}
    is_right = True
    print(f"{'process':38}{'written':>9}{'indexed':>9}{'missing':>9}{'twice':>7}{'counted':>9}{'closed':>8}")
    for name, number in expected.items():
        missing = sum((name, s) not in found for s in range(1, number + 1))
        indexed = sum(1 for p, _ in found if p == name)
        twice = sum(n > 1 for (p, _), n in found.items() if p == name)
        known = counted[name]
        is_right &= not missing and not twice and indexed == known.indexed == number == known.last
        is_right &= known.closed == "final"
        print(f"{name:38}{number:9}{indexed:9}{missing:9}{twice:7}{known.indexed:9}{known.closed:>8}")
    faults = [f for f in (c.fault(reader) for c in cursors) if f]
    for fault in faults:
        print("a cursor", fault)
    print(f"killed: {', '.join(f'{n} {what}' for what, n in sorted(killed_at.items()))}")
    print(f"cursors held over kills: {len(cursors)}, {sum(len(c.rows) for c in cursors)} rows, {len(faults)} wrong")
    print(f"dead letters: {reader.dead_letters()}")
    is_right &= not faults and not reader.dead_letters() and set(counted) == set(expected)
    print("kill_indexer:", "agrees" if is_right else "DISAGREES")
    return is_right


def _spawn(*args: object, **given: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.fault.kill_indexer", *map(str, args)], **given)  # type: ignore[call-overload,no-any-return]


def _wait(is_true: Callable[[], bool], indexer: subprocess.Popen[bytes]) -> None:
    """Waits until `is_true`, which may find an index that does not exist yet."""

    def is_so() -> bool:
        assert indexer.poll() is None, f"the indexer ended by itself with {indexer.returncode}"
        try:
            return is_true()
        except StoreError as e:
            if not e.retriable:
                raise
            return False

    until(is_so, "the indexer goes on", 120)


def main(args: list[str]) -> int:
    if args and args[0] == "write":
        write(Path(args[1]), args[2], int(args[3]))
        return 0
    if args and args[0] == "index":
        index(Path(args[1]), Path(args[2]), int(args[3]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fault.kill_indexer", description="kill -9 of the indexer.")
    parser.add_argument("--times", type=int, default=50, help="how often it is killed (default 50)")
    parser.add_argument("--seed", type=int, default=None, help="repeat an earlier run's choices")
    given = parser.parse_args(args)
    seed = given.seed if given.seed is not None else random.SystemRandom().getrandbits(32)
    with tempfile.TemporaryDirectory(prefix="kill-indexer-") as home:
        return 0 if run(given.times, seed, home=Path(home)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
