"""Operation × failure, injected below the recorder: the application continues, losses are counted and stated, the
numbers agree, and everything works again when the fault ends.

Each case: records before the fault, during it, after it; then everything is read back through a source that adopts."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.exchanges import begun, seal
from tests.support.waiting import until

from asgi_audit.exchange.sealed import Exchange
from asgi_audit.record.statement import Statement, decode_statement
from asgi_audit.recording.recorder import Recorder, shared_recorder
from asgi_audit.recording.writing import Writing
from asgi_audit.settings import Settings, make_settings
from asgi_audit.transport.base import Kind, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter


class FaultyFiles(Files):
    """Fails the named operations while `failing` holds them."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.failures = 0

    def _check(self, operation: str) -> None:
        number = self.failing.get(operation)
        if number:
            self.failures += 1
            raise OSError(number, os.strerror(number))

    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_CREAT:
            self._check("create")
        return super().open(path, flags)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if "short" in self.failing:
            if len(data) > 20:
                return super().pwrite(fd, data[: len(data) // 2], offset)
            self._check("short")
        self._check("pwrite")
        return super().pwrite(fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        self._check("ftruncate")
        super().ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        self._check("fdatasync")
        super().fdatasync(fd)

    def fsync(self, fd: int) -> None:
        self._check("fsync")
        super().fsync(fd)

    def mkdir(self, path: Path) -> None:
        self._check("mkdir")
        super().mkdir(path)


class TrivialBuilder:
    def __init__(self, settings: Settings, facts: ProcessFacts) -> None:
        pass

    def build(self, exchange: Exchange, shed: int = 0) -> bytes:
        return b'{"n":%d,"x":"%s"}' % (exchange.sequence, b"x" * 300)


class Application:
    """Acts like a durable application: seals, waits, counts what was not waited for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = FaultyFiles()
        settings = make_settings({}, transport=f"journal:///{root}/{uuid.uuid4()}")
        self.recorder: Recorder = shared_recorder(settings, self._open_writer, builder_factory=TrivialBuilder)
        self.durable: list[int] = []

    def _open_writer(self, facts: ProcessFacts) -> JournalWriter:
        return JournalWriter(self.root, facts, bytes_max=1 << 24, segment_bytes=4096, files=self.files)

    def request(self, *, is_durable: bool) -> None:
        draft = begun(self.recorder)
        if not is_durable:
            assert seal(self.recorder, draft)
            return
        woken = threading.Event()
        answers: list[bool] = []

        def wake(answer: bool) -> None:
            answers.append(answer)
            woken.set()

        assert seal(self.recorder, draft, wake)
        sequence = self.recorder.stats()["sealed"]  # one thread makes all of them
        assert woken.wait(60), "a waiter was never woken"
        if answers == [True]:
            self.durable.append(sequence)
        else:
            self.recorder.unwaited()

    def requests(self, count: int) -> None:
        for n in range(count):
            self.request(is_durable=n % 4 == 0)
            if n % 5 == 0:
                time.sleep(0.003)  # requests do not arrive all at once

    def read(self) -> tuple[set[int], list[Statement], list[tuple[str, int, str, bytes]]]:
        source = JournalSource(self.root, adopt_seconds=0)
        source.open({})
        found: set[int] = set()
        statements: list[Statement] = []
        damaged: list[tuple[str, int, str, bytes]] = []
        while True:
            batch = source.poll(10_000, 0)
            damaged += batch.damaged
            for message in batch.messages:
                if message.kind is Kind.RECORD:
                    assert b'{"n":%d,' % message.sequence == message.payload.split(b'"x"')[0]
                    found.add(message.sequence)
                else:
                    statements.append(decode_statement(message.payload))
            source.commit(batch.positions)
            if not batch.messages:
                return found, statements, damaged


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    made = Application(tmp_path / "journal")
    yield made
    made.files.failing = {}
    made.recorder.stop()


FAULTS: dict[str, dict[str, int]] = {
    "disk full": {"pwrite": errno.ENOSPC, "create": errno.ENOSPC},
    "disk full, nothing can be cut off": {"pwrite": errno.ENOSPC, "create": errno.ENOSPC, "ftruncate": errno.EIO},
    "short write": {"short": errno.ENOSPC},
    "short write, nothing can be cut off": {"short": errno.ENOSPC, "ftruncate": errno.EIO},
    "write fails": {"pwrite": errno.EIO},
    "fdatasync fails": {"fdatasync": errno.EIO},
    "directory cannot be synced": {"fsync": errno.EIO},
    "quota": {"pwrite": errno.EDQUOT},
    "permission taken away": {"create": errno.EACCES},
    "read-only": {"create": errno.EROFS, "pwrite": errno.EROFS},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_application_goes_on_and_numbers_agree_when(application: Application, fault: str) -> None:
    application.requests(40)
    application.files.failing = FAULTS[fault]
    application.requests(60)
    assert application.files.failures > 0, "the fault was never met"
    durable_during = list(application.durable)
    application.files.failing = {}
    until(lambda: application.recorder.flush(1))
    application.requests(40)
    until(lambda: application.recorder.flush(1))
    stats = application.recorder.stats()
    assert stats["sealed"] == 140
    lost = sum(n for name, n in stats.items() if name.startswith("lost_"))
    assert stats["sealed"] == stats["recorded"] + lost
    assert lost == 0, "a short fault is bridged in memory"
    assert stats["journal_errors" if "sync" not in fault else "sync_errors"] > 0
    assert max(application.durable) > 100, "durable again when the fault is gone"
    application.recorder.stop()
    found, statements, damaged = application.read()
    assert found == set(range(1, 141))
    assert set(durable_during) <= found
    assert not damaged
    assert sum(s.count for s in statements) == 140
    assert statements[-1].closed == "final"
    assert statements[-1].unwaited == stats["unwaited"]


def test_losses_are_stated_when_the_disk_stays_full_for_long(application: Application) -> None:
    """Longer than memory lasts: further records are lost, counted, and stated as soon as something can be written."""
    application.requests(20)
    until(lambda: application.recorder.flush(1))
    application.files.failing = {"pwrite": errno.ENOSPC}
    work = application.recorder._thread.work
    assert isinstance(work, Writing)
    work._output.held_bytes += (8 << 20) - 20_000  # as if nearly all of the bound was used
    for _ in range(200):
        application.request(is_durable=False)
    until(lambda: application.recorder.stats().get("lost_journal", 0) > 0 and not application.recorder._state.queue)
    work._output.held_bytes -= (8 << 20) - 20_000
    application.files.failing = {}
    application.requests(20)
    until(lambda: application.recorder.flush(1))
    application.recorder.stop()
    stats = application.recorder.stats()
    assert stats["sealed"] == stats["recorded"] + stats["lost_journal"] == 240
    found, statements, _ = application.read()
    lost = {n for s in statements for r in s.lost for n in range(r.first, r.last + 1)}
    assert {r.reason for s in statements for r in s.lost} == {"journal"}
    assert found | lost == set(range(1, 241))
    assert not found & lost


def test_journal_is_made_again_when_its_directory_was_removed(application: Application) -> None:
    application.requests(40)
    until(lambda: application.recorder.flush(1))
    before = application.recorder._state.facts.process
    shutil.rmtree(application.root)
    application.requests(40)
    until(lambda: application.recorder.flush(1))
    assert application.recorder.stats()["recorded"] == 80
    counters = (application.root / str(before) / "counters").read_bytes()[16:40]
    assert int.from_bytes(counters[8:16], "little") == 80, "the counters moved to the new page"
    application.recorder.stop()
    found, statements, damaged = application.read()
    assert found == set(range(41, 81))
    assert statements[-1].last == 80
    assert [reason for _, _, reason, _ in damaged], "that segments are gone is shown, not passed over"


def test_reader_sees_nothing_of_a_failed_append_when_it_cannot_be_cut_off(tmp_path: Path) -> None:
    """Goal: whole entries of a write that failed half-way are not returned, because the caller was told that the write
    failed."""
    from asgi_audit.errors import TransportError
    from asgi_audit.transport.base import Entry

    class HalfWay(Files):
        is_failing = False

        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            if not self.is_failing:
                return super().pwrite(fd, data, offset)
            if len(data) > 900:
                return super().pwrite(fd, data[:900], offset)
            raise OSError(errno.ENOSPC, "full")

        def ftruncate(self, fd: int, size: int) -> None:
            raise OSError(errno.EIO, "no")

    files = HalfWay()
    writer = JournalWriter(
        tmp_path, ProcessFacts(uuid.uuid4(), "h", "s", 1), bytes_max=1 << 20, segment_bytes=1 << 16, files=files
    )
    source = JournalSource(tmp_path)
    source.open({})
    entries = [Entry(Kind.RECORD, n, b"%d" % n * 100) for n in range(1, 11)]
    writer.append(entries[:2])
    files.is_failing = True
    with pytest.raises(TransportError, match="append"):
        writer.append(entries[2:])
    assert [m.sequence for m in source.poll(100, 0).messages] == [1, 2]
    files.is_failing = False
    writer.append(entries[5:])
    batch = source.poll(100, 0)
    assert [m.sequence for m in batch.messages] == [6, 7, 8, 9, 10]
    assert not batch.damaged
    writer.close()


def test_nothing_is_claimed_durable_when_sync_failed_once(tmp_path: Path) -> None:
    """Goal: an fdatasync that succeeds after a failed one proves nothing. Method: the segment is abandoned."""
    from asgi_audit.errors import TransportError
    from asgi_audit.transport.base import Entry

    files = FaultyFiles()
    writer = JournalWriter(
        tmp_path, ProcessFacts(uuid.uuid4(), "h", "s", 1), bytes_max=1 << 20, segment_bytes=1 << 16, files=files
    )
    writer.append([Entry(Kind.RECORD, 1, b"1")])
    files.failing = {"fdatasync": errno.EIO}
    with pytest.raises(TransportError, match="sync"):
        writer.sync()
    files.failing = {}
    writer.append([Entry(Kind.RECORD, 1, b"1")])
    writer.sync()
    (directory,) = tmp_path.glob("[!.]*")
    assert len(list(directory.glob("*.seg"))) == 2, "what must be durable was written again, elsewhere"
    writer.close()
