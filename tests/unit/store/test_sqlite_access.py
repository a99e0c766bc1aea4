"""Modes of an index's files, and links in place of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.records import NOON, batch, record
from tests.support.users import GROUP, NEEDS_ROOT, as_other

from asgi_audit.disk import Access
from asgi_audit.errors import StoreError
from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import Query
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, retention


def clock() -> float:
    return NOON / 1000


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda u: f"umask{u:03o}", autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory that an administrator created."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o755)
    return tmp_path / "volume"


def modes(directory: Path) -> dict[str, int]:
    return {p.name: stat.S_IMODE(p.lstat().st_mode) for p in directory.iterdir()}


def filled(directory: Path, access: Access = Access()) -> None:  # noqa: B008
    writer = SqliteWriter(directory, clock=clock, access=access)
    writer.write(batch([record(1)]))
    retention.ask(directory, NOON - 86_400_000, access)
    writer.close()


def test_files_are_private_when_the_directory_is_everybodys(volume: Path) -> None:
    filled(volume)
    found = modes(volume)
    assert set(found.values()) == {0o600}
    assert {"main.db", "main.db-wal", "main.db-shm", "lease", "fence", "reserve"} < set(found)
    assert stat.S_IMODE(volume.stat().st_mode) == 0o755


def test_directory_is_private_when_we_make_it(tmp_path: Path) -> None:
    filled(tmp_path / "home" / "index")
    assert modes(tmp_path)["home"] == modes(tmp_path / "home")["index"] == 0o700


def test_files_of_the_first_version_are_mended_when_the_index_is_opened(tmp_path: Path) -> None:
    index = tmp_path / "index"
    filled(index)
    for path in index.iterdir():
        path.chmod(0o644)
    (index / "notes.txt").write_text("an operator's")
    (index / "notes.txt").chmod(0o644)
    index.chmod(0o750)
    SqliteWriter(index, clock=clock).close()
    found = modes(index)
    assert found.pop("notes.txt") == 0o644
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE(index.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["main.db", "main.db-wal", "lease", "fence", "reserve", "day-2026-11-22.db"])
def test_index_is_not_opened_when_a_link_stands_in_place_of_a_file(name: str, tmp_path: Path) -> None:
    index, target = tmp_path / "index", tmp_path / "target"
    filled(index)
    target.write_bytes((index / name).read_bytes() if (index / name).exists() else b"")
    before = target.read_bytes()
    (index / name).unlink(missing_ok=True)
    (index / name).symlink_to(target)
    with pytest.raises(StoreError, match=f"{name} is a symbolic link") as e:
        SqliteWriter(index, clock=clock)
    assert not e.value.retriable
    assert target.read_bytes() == before


def test_nothing_is_written_through_a_link_when_it_comes_while_the_index_is_open(tmp_path: Path) -> None:
    index, target = tmp_path / "index", tmp_path / "target"
    writer = SqliteWriter(index, clock=clock)
    day = f"day-{retention.day_of(NOON)}.db"
    (index / day).symlink_to(target)
    with pytest.raises(StoreError, match="symbolic link"):
        writer.write(batch([record(1)]))
    writer.close()
    assert not target.exists()


def test_index_may_stand_behind_a_link_when_its_owner_made_it(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "index").symlink_to(tmp_path / "disk")
    filled(tmp_path / "index")
    reader = SqliteReader(tmp_path / "index")
    assert reader.snapshot().published
    reader.close()


@NEEDS_ROOT
@pytest.mark.parametrize(("access", "may"), [(Access(), False), (Access(GROUP), True)])
def test_another_user_takes_the_index_over_when_the_group_is_shared(
    access: Access, may: bool, open_to_all: Path
) -> None:
    index = open_to_all / "home" / "index"
    filled(index, access)

    def take_over() -> int:
        writer = SqliteWriter(index, clock=clock, access=access)
        writer.write(batch([record(2, NOON + 86_400_000 - 1)]))
        writer.purge(NOON - 86_400_000)
        writer.close()
        return sorted(modes(index).values())[0]

    said = as_other(take_over, groups=[GROUP])
    assert (said == str(0o660)) is may, said
    if not may:
        assert "Permission denied" in said
        return
    # The first user continues with the files of the second one.
    writer = SqliteWriter(index, clock=clock, access=access)
    writer.write(batch([record(3)]))
    writer.close()
    reader = SqliteReader(index)
    query = Query(accounts=None, start=0, end=TIME_END)
    rows, _ = reader.page(query, published=reader.snapshot().published, before=None, limit=10, bytes_max=1 << 20)
    reader.close()
    assert len(rows) == 3
