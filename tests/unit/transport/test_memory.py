"""Properties of the journal in memory alone."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.memory import SHARED_BYTES_MAX, MemoryJournal


def test_poll_answers_at_once_when_something_is_appended_while_it_waits() -> None:
    journal = MemoryJournal(bytes_max=1 << 16)
    writer = journal.writer(ProcessFacts(uuid.uuid4(), "h", "s", 1))
    source = journal.source()
    source.open({})
    timer = threading.Timer(0.05, lambda: writer.append([Entry(Kind.RECORD, 1, b"{}")]))
    timer.start()
    assert [m.sequence for m in source.poll(10, 30).messages] == [1]
    timer.join()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_has_a_journal_of_its_own_when_forked() -> None:
    journal = MemoryJournal.shared(bytes_max=1 << 16)
    assert MemoryJournal.shared(bytes_max=1 << 20) is journal
    pid = os.fork()
    if pid == 0:
        os._exit(0 if MemoryJournal.shared(bytes_max=1 << 16) is not journal else 1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(("asked", "given"), [(1 << 30, SHARED_BYTES_MAX), (1 << 20, 1 << 20)])
def test_shared_journal_stays_small_when_its_bound_is_meant_for_a_disk(
    asked: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_audit.transport.memory._shared", None)
    assert MemoryJournal.shared(bytes_max=asked).bytes_max == given
