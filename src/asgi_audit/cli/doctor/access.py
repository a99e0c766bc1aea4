"""Checks who else may read or change the stored data: modes, owners and links of all files of asgi-audit."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ...settings import Settings
from ...wiring.operations import open_admin
from .checks import Finding, Level

__all__ = ["access"]

_SHOWN = 3
_BESIDE_CONTROL = ("", "-wal", "-shm")


def access(s: Settings) -> Iterator[Finding]:
    wider: dict[str, list[str]] = {}
    found = 0
    for path in _ours(s):
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            continue
        found += 1
        is_directory = stat.S_ISDIR(there.st_mode)
        if stat.S_ISLNK(there.st_mode) and path not in _may_be_links(s):
            do = f"Find out who created it: only this user should be able to write to {path.parent}. Then remove it."
            yield Finding("bad", "access", f"{path} is a symbolic link in place of a file of asgi-audit", do)
            continue
        if stat.S_ISLNK(there.st_mode):
            there, is_directory = os.stat(path), True
        yield from _owner(s, path, there, is_directory)
        more = stat.S_IMODE(there.st_mode) & 0o777 & ~_wanted(s, is_directory)
        if more:
            kind = _kind(more, is_directory)
            wider.setdefault(kind, []).append(f"{path} ({stat.S_IMODE(there.st_mode):04o})")
    for kind, paths in wider.items():
        shown = ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
        level: Level = "warn" if kind == "may be listed by others" else "bad"
        do = "chmod go-rwx them" if s.access.group is None else "chmod o-rwx them"
        yield Finding(level, "access", f"{shown} {kind}", f"{do}, as their owner. Their contents are secret.")
    if not wider and found:
        shared = "" if s.access.group is None else f" and the group {s.access.group}"
        yield Finding("ok", "access", f"{found:,} files and directories are for their owner{shared} alone")


def _ours(s: Settings) -> Iterator[Path]:
    yield from _may_be_links(s)
    yield from (Path(f"{s.control_path}{end}") for end in _BESIDE_CONTROL)
    yield from open_admin(s).files()
    yield from _listed(s.exports_path)
    journal = s.journal_path
    for root in [p for p in (journal, s.dead_letters_path) if p is not None]:
        for path in _listed(root):
            yield path
            if not path.is_symlink():
                yield from _listed(path)


def _may_be_links(s: Settings) -> list[Path]:
    """Directories that may be links: an operator names them, or moves them to another disk."""
    return [p for p in (s.home, s.journal_path, s.store_path, s.dead_letters_path, s.exports_path) if p]


def _listed(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(directory / name for name in os.listdir(directory))
    return []


def _owner(s: Settings, path: Path, there: os.stat_result, is_directory: bool) -> Iterator[Finding]:
    """Checks the owner: a directory of another user may be changed by that user at any time."""
    if not is_directory or there.st_uid in (0, os.geteuid()) or there.st_gid == s.access.group:
        return
    text = f"{path} was created by another user (uid {there.st_uid}), who can replace its contents"
    level: Level = "warn" if os.geteuid() == 0 else "bad"
    do = "Run this as the user of the indexer, use another home, or share it with share_with_group."
    yield Finding(level, "access", text, do)


def _wanted(s: Settings, is_directory: bool) -> int:
    return s.access.directory_mode & 0o777 if is_directory else s.access.file_mode


def _kind(more: int, is_directory: bool) -> str:
    if more & 0o022:
        return "may be changed by others"
    return "may be listed by others" if is_directory else "may be read by others"
