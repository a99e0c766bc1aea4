"""The claims of an index created in place of a lost one: nothing that its predecessor took."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import until

from asgi_audit.settings import Settings
from asgi_audit.store.base import Writer
from asgi_audit.transport.base import ProcessFacts
from asgi_audit.transport.journal import JournalWriter
from asgi_audit.transport.journal.root import read_root
from asgi_audit.wiring.operations import build_indexer, forget_index, open_store_reader, open_store_writer


@contextmanager
def indexing(settings: Settings, *, new_index: bool = False) -> Iterator[Writer]:
    """As the command `index` does it."""
    writer = open_store_writer(settings, new_index=new_index)
    if new_index:
        forget_index(settings, meant=writer.id)
    stop = threading.Event()
    thread = threading.Thread(target=build_indexer(settings, writer, stop=stop).run)
    thread.start()
    try:
        yield writer
    finally:
        stop.set()
        thread.join()
        writer.close()


def begins_of(settings: Settings) -> int:
    """`complete from` (ms), when it is known."""
    found: list[int] = []

    def is_known() -> bool:
        reader = open_store_reader(settings)
        try:
            begins = reader.completeness(0, 0).begins
        finally:
            reader.close()
        found.extend([] if begins is None else [begins])
        return begins is not None

    until(is_known, "a fence has passed")
    return found[0]


def test_index_in_place_of_a_lost_one_claims_nothing_from_before_it_was_made(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    now = int(time.time() * 1000)
    facts = ProcessFacts(uuid.uuid4(), "h", "s", now)
    journal = JournalWriter(tmp_path / "journal", facts, bytes_max=1 << 20, segment_bytes=4096)
    root = read_root(tmp_path / "journal")
    assert root is not None
    with indexing(settings):
        assert begins_of(settings) == root.made_at_ms, "the first index could take all that the journal ever held"
    shutil.rmtree(tmp_path / "index")
    before = int(time.time() * 1000)
    with indexing(settings, new_index=True) as writer:
        assert begins_of(settings) == writer.made_at_ms
    assert writer.made_at_ms is not None
    assert writer.made_at_ms >= before
    with indexing(settings):  # it stays so after a restart
        assert begins_of(settings) == writer.made_at_ms
    journal.close()
