"""Which index belongs to a home, as its parts remember it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from asgi_audit.control import Control
from asgi_audit.control.served import name_index, named_index
from asgi_audit.errors import AuditError, StoreError
from asgi_audit.settings import Settings
from asgi_audit.transport.base import ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalWriter
from asgi_audit.transport.journal.root import claim_root, forget_index, read_root
from asgi_audit.wiring import index_memory
from asgi_audit.wiring.index_memory import HomeMemory, memory_of
from asgi_audit.wiring.operations import forget_index as forget_home
from asgi_audit.wiring.operations import open_store_writer

A, B = "a" * 32, "b" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Control(tmp_path / "control.db").close()
    facts = ProcessFacts(uuid.uuid4(), "h", "s", 1)
    JournalWriter(tmp_path / "journal", facts, bytes_max=1 << 20, segment_bytes=4096).close()
    return tmp_path


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(index_memory.time, "monotonic", lambda: now[0])
    return now


def memory(home: Path) -> HomeMemory:
    return HomeMemory(Settings(home=home), home / "journal")


def test_nobody_names_an_index_when_none_was_seen(home: Path, tmp_path: Path) -> None:
    assert memory(home).named() == memory(tmp_path / "none").named() == {}


def test_process_journal_and_keys_name_what_they_know(home: Path) -> None:
    claim_root(home / "journal", A, Files())
    name_index(home / "control.db", A)
    mine = memory(home)
    mine.remember(A)
    assert mine.named() == {f"the journal {home / 'journal'}": A, str(home / "control.db"): A, "this process": A}


@pytest.mark.parametrize("keeps", [True, False])
def test_only_who_serves_or_indexes_writes_down_what_it_saw(keeps: bool, home: Path) -> None:
    mine = memory(home)
    if keeps:
        mine.keep()
    mine.remember(A)
    assert named_index(home / "control.db") == (A if keeps else None)


def test_no_keys_are_made_to_remember_an_index(tmp_path: Path) -> None:
    mine = memory(tmp_path)
    mine.keep()
    mine.remember(A)
    assert list(tmp_path.iterdir()) == []
    assert mine.named() == {"this process": A}


@pytest.mark.parametrize("keeps", [True, False])
def test_home_of_an_index_that_a_topic_feeds_remembers_it(keeps: bool, tmp_path: Path) -> None:
    """No journal names it: without this a new empty index would be created in place of a missing directory."""
    settings = Settings(home=tmp_path / "home", transport="kafka://127.0.0.1:9/t")
    mine = HomeMemory(settings, None)
    if keeps:
        mine.keep()
    mine.remember(A)
    assert named_index(tmp_path / "home" / "control.db") == (A if keeps else None)
    later = HomeMemory(settings, None)
    assert later.named() == ({str(tmp_path / "home" / "control.db"): A} if keeps else {})
    later.forget()
    assert HomeMemory(settings, None).named() == {}


def test_vanished_index_of_a_topic_is_not_made_again(tmp_path: Path) -> None:
    """As `asgi-audit index --from kafka://… --to PATH` opens it, in a home without keys."""

    def opened(*, new_index: bool = False) -> str:
        index_memory._memories.clear()  # another process
        settings = Settings(
            home=tmp_path / "home", transport="kafka://127.0.0.1:9/t", store=f"sqlite:///{tmp_path}/index"
        )
        writer = open_store_writer(settings, new_index=new_index)
        if new_index:
            forget_home(settings, meant=writer.id)
        writer.close()
        return writer.id

    first = opened()
    assert opened() == first
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(StoreError, match=f"the index {first} is gone"):
        opened()
    assert not (tmp_path / "index").exists()
    second = opened(new_index=True)
    assert second != first
    assert opened() == second


def test_index_of_a_topic_is_made_and_says_so_when_its_home_cannot_remember_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("a file in its place")
    mine = HomeMemory(Settings(home=tmp_path / "home", transport="kafka://127.0.0.1:9/t"), None)
    mine.keep()
    mine.remember(A)
    assert mine.named() == {"this process": A}
    assert "if the index is missing at the next start, a new one is created" in caplog.text


def test_new_index_is_taken_when_another_process_was_told_so(home: Path, at: list[float]) -> None:
    claim_root(home / "journal", A, Files())
    name_index(home / "control.db", A)
    serving = memory(home)
    assert set(serving.named().values()) == {A}
    serving.remember(A)
    told = memory(home)
    told.keep()
    told.forget()
    told.remember(B)
    claim_root(home / "journal", B, Files())
    assert set(serving.named().values()) == {A}  # it looks again only after a mismatch
    assert set(serving.named(again=True).values()) == {A}  # and at most once a second
    at[0] += 1.0
    assert set(serving.named(again=True).values()) == {B}
    found = read_root(home / "journal")
    assert found is not None
    assert (found.index, found.first_index) == (B, A)


def test_what_this_process_saw_stays_when_nobody_else_names_any(home: Path, at: list[float]) -> None:
    claim_root(home / "journal", A, Files())
    mine = memory(home)
    mine.remember(A)
    forget_index(home / "journal", Files())
    at[0] += 5.0
    assert mine.named(again=True) == {"this process": A}


def test_root_of_a_forwarded_journal_names_no_index(home: Path) -> None:
    claim_root(home / "journal", A, Files())
    settings = Settings(home=home, transport="kafka://k:9092/t")
    assert memory_of(settings).named() == {}
    assert memory_of(settings) is memory_of(settings)
    assert memory_of(Settings(home=home)).named() == {f"the journal {home / 'journal'}": A}


def test_what_cannot_be_read_is_an_error_not_a_new_index(home: Path) -> None:
    (home / "journal" / ".root.json").write_text("{")
    with pytest.raises(AuditError):
        memory(home).named()
    (home / "journal" / ".root.json").unlink()
    (home / "control.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        memory(home).named()


def test_looking_changes_no_mode(home: Path) -> None:
    (home / "control.db").chmod(0o644)
    memory(home).named()
    assert (home / "control.db").stat().st_mode & 0o777 == 0o644
