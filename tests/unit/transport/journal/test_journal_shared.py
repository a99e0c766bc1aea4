"""A journal whose application and indexer are two users of one group."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import pytest
from tests.support.users import GROUP, NEEDS_ROOT, as_other

from asgi_audit.disk import PRIVATE, Access
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.journal.root import ROOT_NAME, read_root

INDEX = "a" * 32


def writer_of(root: Path, access: Access) -> JournalWriter:
    facts = ProcessFacts(uuid.uuid4(), "h", "s", 1)
    return JournalWriter(root, facts, bytes_max=1 << 20, segment_bytes=4096, files=Files.shared(access))


def taken(root: Path, access: Access) -> int:
    """Read, adopt, commit and remove everything, as an indexer does."""
    source = JournalSource(root, adopt_seconds=0, files=Files.shared(access), index=INDEX)
    source.open({})
    found = 0
    for _ in range(5):
        batch = source.poll(1000, 0)
        found += sum(m.kind is Kind.RECORD for m in batch.messages)
        source.commit(batch.positions)
    source.close()
    return found


def left(root: Path) -> list[str]:
    return [p.name for p in root.iterdir() if p.name != ROOT_NAME]


@NEEDS_ROOT
@pytest.mark.parametrize("access", [Access(GROUP), PRIVATE], ids=["shared", "private"])
def test_indexer_of_another_user_takes_in_and_removes_a_journal_when_it_is_shared(
    access: Access, open_to_all: Path
) -> None:
    root = open_to_all / "home" / "journal"
    dead, alive = writer_of(root, access), writer_of(root, access)
    for writer in (dead, alive):
        for sequence in range(1, 31):
            writer.append([Entry(Kind.RECORD, sequence, b"x" * 500)])
    dead.close()
    said = as_other(lambda: taken(root, access), groups=[GROUP])
    if access is PRIVATE:
        assert "Permission denied" in said
        assert len(left(root)) == 2
        alive.close()
        return
    assert said == "60"
    assert left(root) == [alive._name]  # that of the dead process is removed
    alive.append([Entry(Kind.RECORD, 31, b"x")])  # and the living process continues beside it
    alive.close()
    as_other(lambda: taken(root, access), groups=[GROUP])
    assert left(root) == []
    found = read_root(root)
    assert found is not None
    assert found.index == INDEX
    assert {stat.S_IMODE(p.stat().st_mode) for p in (root, root.parent)} == {0o2770}
    # The root's file belongs to the indexer now, and the application reads it.
    assert stat.S_IMODE((root / ROOT_NAME).stat().st_mode) == 0o660
    writer_of(root, access).close()
