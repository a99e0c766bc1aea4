"""Journal and index on one small disk: the journal's records are indexed and its space is freed, and only the indexer
makes room.

Bounds: the index of these records is as large as the disk less 4 to 5 MB; a larger one cannot be stored. Without
the space of unlinked segments, and without what the reserve lends, indexing stopped half way."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest
from tests.support.records import payload
from tests.support.waiting import until

from asgi_audit.settings import make_settings
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.wiring.application import open_journal
from asgi_audit.wiring.operations import build_indexer, open_store_reader, open_store_writer


@pytest.mark.full
@pytest.mark.parametrize(
    ("size", "more", "is_index_there"), [(2000, "", False), (4000, " word" * 500, True)], ids=["small", "large"]
)
def test_indexer_drains_the_journal_when_both_fill_one_disk(
    tmp_path: Path, size: int, more: str, is_index_there: bool
) -> None:
    """Records of which `size` bytes do not compress, until the journal counts as full."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(tmp_path)], capture_output=True)
    if done.returncode:
        pytest.skip("other platform: a tmpfs cannot be mounted here: run as root, in a container with --privileged")
    try:
        settings = make_settings({}, home=tmp_path / "home")
        process, chance, now = uuid.uuid4(), random.Random(7), int(time.time() * 1000)
        if is_index_there:
            open_store_writer(settings).close()
        journal = open_journal(settings, ProcessFacts(process, "host", "app", now))
        written = 0
        while journal.room() < 1.0:
            written += 1
            body = {"note": base64.b64encode(chance.randbytes(size)).decode() + more}
            data = payload(written, now + written % 1000, process=process, body=body)
            journal.append([Entry(Kind.RECORD, written, data)])
        assert os.statvfs(tmp_path).f_bavail > 0, "it left room for statements and for the index"
        stop = threading.Event()
        writer = open_store_writer(settings)
        indexer = build_indexer(settings, writer, stop=stop)
        thread = threading.Thread(target=indexer.run)
        thread.start()

        def is_drained() -> bool:
            journal.room()  # as its process does, once a second
            return indexer.progress.lag is not None or not thread.is_alive()

        until(is_drained, lambda: str(indexer.progress), 120)
        stop.set()
        thread.join(60)
        writer.close()
        reader = open_store_reader(settings)
        (known,) = reader.processes()
        reader.close()
        assert (known.indexed, indexer.progress.dead) == (written, 0), indexer.progress
        assert len(list(tmp_path.glob("home/journal/*/*.seg"))) <= 2
        journal.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
