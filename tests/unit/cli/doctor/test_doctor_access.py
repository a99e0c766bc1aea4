"""The findings of `doctor` about modes, owners and links."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from tests.support.users import NEEDS_ROOT, OTHER

from asgi_audit.cli.doctor.access import access
from asgi_audit.cli.doctor.checks import Finding
from asgi_audit.control import Control
from asgi_audit.settings import Settings
from asgi_audit.store.sqlite import SqliteWriter
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.journal import JournalWriter


@pytest.fixture
def home(tmp_path: Path) -> Path:
    SqliteWriter(tmp_path / "index").close()
    Control(tmp_path / "control.db").close()
    writer = JournalWriter(
        tmp_path / "journal", ProcessFacts(uuid.uuid4(), "h", "s", 1), bytes_max=1 << 20, segment_bytes=4096
    )
    writer.append([Entry(Kind.RECORD, 1, b"{}")])
    writer.close()
    return tmp_path


def found(home: Path) -> list[Finding]:
    return list(access(Settings(home=home)))


def test_all_is_private_when_made(home: Path) -> None:
    (one,) = found(home)
    assert one.level == "ok"
    assert "for their owner alone" in one.message


@pytest.mark.parametrize(
    ("name", "mode", "level", "said"),
    [
        ("index/main.db", 0o644, "bad", "may be read by others"),
        ("index/main.db-wal", 0o640, "bad", "may be read by others"),
        ("control.db", 0o660, "bad", "may be changed by others"),
        ("journal", 0o755, "warn", "may be listed by others"),
        ("index", 0o777, "bad", "may be changed by others"),
        ("journal/*/lock", 0o604, "bad", "may be read by others"),
        (".", 0o750, "warn", "may be listed by others"),
    ],
)
def test_what_is_wider_is_named(name: str, mode: int, level: str, said: str, home: Path) -> None:
    path = next(home.glob(name)) if name != "." else home
    path.chmod(mode)
    (one,) = found(home)
    assert one.level == level
    assert said in one.message
    assert f"{path} ({mode:04o})" in one.message
    assert one.do


@pytest.mark.parametrize("name", ["index/main.db", "control.db", "journal/*", "index/fence"])
def test_link_in_place_of_a_file_is_named(name: str, home: Path) -> None:
    path = next(home.glob(name))
    path.rename(home / "elsewhere")
    path.symlink_to(home / "elsewhere")
    assert [one.message for one in found(home) if one.level == "bad"] == [
        f"{path} is a symbolic link in place of a file of asgi-audit"
    ]


def test_directory_on_another_disk_is_fine(home: Path) -> None:
    (home / "index").rename(home / "big")
    (home / "index").symlink_to(home / "big")
    assert [one.level for one in found(home)] == ["ok"]


@NEEDS_ROOT
def test_home_of_another_user_is_named(home: Path) -> None:
    os.chown(home, OTHER, OTHER)
    first = found(home)[0]
    assert first.level == "warn"  # for root, who may read everything; for every other user it is broken
    assert f"was created by another user (uid {OTHER})" in first.message


def test_nothing_is_said_when_nothing_is_there(tmp_path: Path) -> None:
    assert found(tmp_path / "none") == []
