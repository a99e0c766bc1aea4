"""The indexer over a real journal and a real index whose disk has errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.support.records import NOON, PROCESS, payload, sequences, statement, walk
from tests.support.waiting import until

from asgi_audit.indexing.indexer import Indexer, IndexerProgress
from asgi_audit.record.statement import encode_statement
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, schema
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.journal import JournalSource, JournalWriter, follow


def test_indexer_waits_and_loses_nothing_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a full disk neither dead-letters nor ends the loop, and the journal keeps what is not stored. Method: the
    index's files may not grow (SQLITE_FULL, as from a full disk) until the indexer has paused; then they may."""
    is_full = threading.Event()
    original = schema.open_writing

    def opened(*given: Any) -> apsw.Connection:
        connection = original(*given)
        if is_full.is_set():
            connection.execute("PRAGMA max_page_count=1")
        return connection

    monkeypatch.setattr("asgi_audit.store.sqlite.day.open_writing", opened)
    monkeypatch.setattr("asgi_audit.store.sqlite.writer.open_writing", opened)
    root = tmp_path / "journal"
    facts = ProcessFacts(PROCESS, "host", "gateway", NOON)
    journal = JournalWriter(root, facts, bytes_max=1 << 30, segment_bytes=1 << 14)
    for s in range(1, 401):
        journal.append([Entry(Kind.RECORD, s, payload(s, NOON + s))])
    journal.append([Entry(Kind.STATEMENT, 400, encode_statement(statement(1, 1, 400, closed="final")))])
    journal.close()

    writer = SqliteWriter(tmp_path / "index", clock=lambda: NOON / 1000 + 10)
    reader = SqliteReader(tmp_path / "index")
    is_full.set()
    heard: list[IndexerProgress] = []
    stop = threading.Event()
    source = JournalSource(root, adopt_seconds=0.05)
    indexer = Indexer(source, writer, stop=stop, on_progress=heard.append)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    try:
        until(lambda: any("FullError" in p.paused for p in heard))
        # Records that still fit into existing pages are stored, in their order.
        waiting = {m.sequence for m in follow(root, from_beginning=True, stop=lambda: True) if m.kind is Kind.RECORD}
        stored = set(sequences(walk(reader, limit=100)))
        assert waiting | stored == set(range(1, 401)), "removed what is not stored"
        assert waiting - stored
        is_full.clear()
        until(lambda: not list(root.glob(str(PROCESS))))
        assert sorted(sequences(walk(reader, limit=100))) == list(range(1, 401))
        assert (indexer.progress.dead, reader.dead_letters(), indexer.progress.paused) == (0, 0, "")
        assert reader.processes()[0].closed == "final"
    finally:
        stop.set()
        thread.join(10)
        source.close()
        writer.close()
        reader.close()
    assert not thread.is_alive()
