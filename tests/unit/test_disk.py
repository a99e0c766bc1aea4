"""Files and directories of asgi-audit: their modes from creation on, under every umask; links; those of other users."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.users import GROUP, NEEDS_ROOT, OTHER, as_other

from asgi_audit.disk import PRIVATE, Access


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=lambda u: f"umask{u:03o}", autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.parametrize(("access", "of_file", "of_directory"), [(PRIVATE, 0o600, 0o700), (None, 0o660, 0o2770)])
def test_modes_are_exact_when_made(access: Access | None, of_file: int, of_directory: int, open_to_all: Path) -> None:
    access = access or Access(group=os.getegid())
    os.close(access.open(open_to_all / "file", os.O_WRONLY | os.O_CREAT))
    assert access.create(open_to_all / "empty")
    assert access.makedirs(open_to_all / "a" / "b" / "c")
    assert {mode(open_to_all / name) for name in ("file", "empty")} == {of_file}
    assert {mode(open_to_all / name) for name in ("a", "a/b", "a/b/c")} == {of_directory}
    assert not access.makedirs(open_to_all / "a" / "b")
    assert mode(open_to_all) == 0o755


def test_modes_are_mended_when_an_earlier_version_left_them_wider(open_to_all: Path) -> None:
    old, made = open_to_all / "old", open_to_all / "directory"
    old.write_text("x")
    made.mkdir()
    for path, before in ((old, 0o644), (made, 0o755)):
        path.chmod(before)
        PRIVATE.mend(path)
    assert (mode(old), mode(made)) == (0o600, 0o700)
    old.chmod(0o400)
    PRIVATE.mend(old)
    assert mode(old) == 0o400
    Access(group=os.getegid()).mend(old)
    assert mode(old) == 0o660


def test_locks_stay_when_a_mode_is_mended(open_to_all: Path) -> None:
    """POSIX frees all locks that a process holds on a file when it closes any descriptor of it."""
    path = open_to_all / "lock"
    path.touch()
    path.chmod(0o644)
    with path.open("r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        PRIVATE.mend(path)
        assert not PRIVATE.create(path)
        code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    assert "BlockingIOError" in done.stderr
    assert mode(path) == 0o600


@pytest.mark.parametrize("dangling", [True, False])
def test_link_is_not_followed_when_it_stands_in_place_of_a_file(dangling: bool, open_to_all: Path) -> None:
    target, link = open_to_all / "target", open_to_all / "link"
    if not dangling:
        target.write_text("theirs")
        target.chmod(0o644)
    link.symlink_to(target)
    for act in (
        lambda: PRIVATE.open(link, os.O_WRONLY | os.O_CREAT),
        lambda: PRIVATE.open(link, os.O_RDONLY),
        lambda: PRIVATE.create(link),
        lambda: PRIVATE.mend(link),
    ):
        with pytest.raises(OSError) as e:
            act()
        assert e.value.errno == errno.ELOOP
        assert "symbolic link" in str(e.value)
    assert target.exists() is not dangling
    if not dangling:
        assert (target.read_text(), mode(target)) == ("theirs", 0o644)


def test_directory_may_be_a_link_when_it_is_ours(open_to_all: Path) -> None:
    there = open_to_all / "disk"
    PRIVATE.makedirs(there)
    (open_to_all / "journal").symlink_to(there)
    assert not PRIVATE.makedirs(open_to_all / "journal")
    assert PRIVATE.makedirs(open_to_all / "journal" / "x")


def test_directory_is_refused_when_a_file_stands_there(open_to_all: Path) -> None:
    (open_to_all / "file").touch()
    with pytest.raises(FileExistsError):
        PRIVATE.makedirs(open_to_all / "file")


@NEEDS_ROOT
def test_directory_is_refused_when_another_user_put_a_link_there(open_to_all: Path) -> None:
    there = open_to_all / "there"
    PRIVATE.makedirs(there)
    (open_to_all / "journal").symlink_to(there)
    os.lchown(open_to_all / "journal", OTHER, OTHER)
    with pytest.raises(OSError, match="another user") as e:
        PRIVATE.makedirs(open_to_all / "journal")
    assert e.value.errno == errno.ELOOP


@NEEDS_ROOT
def test_files_of_another_user_are_left_as_they_are(open_to_all: Path) -> None:
    path = open_to_all / "theirs"
    path.touch()
    path.chmod(0o644)
    os.chown(path, OTHER, OTHER)
    PRIVATE.mend(path)
    os.close(PRIVATE.open(path, os.O_WRONLY | os.O_CREAT))
    assert mode(path) == 0o644


@NEEDS_ROOT
def test_another_user_locks_and_unlinks_when_the_group_is_shared(open_to_all: Path) -> None:
    """As an indexer does that runs beside the application as another user."""
    access = Access(group=GROUP)
    access.makedirs(open_to_all / "home" / "journal")
    path = open_to_all / "home" / "journal" / "lock"
    os.close(access.open(path, os.O_RDWR | os.O_CREAT))

    def take_over() -> int:
        fd = os.open(path, os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        os.close(access.open(path, os.O_RDWR | os.O_CREAT))
        return os.stat(path).st_gid

    assert as_other(take_over).startswith("PermissionError")
    assert as_other(take_over, groups=[GROUP]) == str(GROUP)
