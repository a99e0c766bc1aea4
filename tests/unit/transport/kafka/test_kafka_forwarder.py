"""What the forwarder does with one read of its source, without a broker."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.kafka.config import kafka_config
from asgi_audit.transport.kafka.errors import escaped_errors
from asgi_audit.transport.kafka.forwarder import Forwarder
from asgi_audit.transport.kafka.lanes import Lanes
from asgi_audit.transport.memory import MemoryJournal


def test_forwarder_ends_when_what_it_read_is_not_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source hands it out once: going on behind it would remove it from the journal unsent."""
    journal = MemoryJournal(bytes_max=1 << 20)
    journal.writer(ProcessFacts(uuid.uuid4(), "h", "s", 1)).append([Entry(Kind.RECORD, 1, b"{}")])
    forwarder = Forwarder(journal.source(), kafka_config("kafka://127.0.0.1:1/audit"), dead_letters=tmp_path / "dead")
    forwarder._source.open({})

    def breaks(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Lanes, "add", breaks)
    with pytest.raises(BaseException, match="MemoryError") as raised:
        forwarder._read()
    assert not isinstance(raised.value, escaped_errors()), "the outermost loop goes on after those"
    assert not forwarder._lanes.moved()
