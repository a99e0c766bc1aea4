"""Lists the files of an index and sets their modes."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ...disk import Access
from .fence import FENCE_NAME
from .lease import LEASE_NAME, LOCK_NAME
from .retention import RESERVE_NAME, day_of_copy, is_request
from .schema import BESIDE, MAIN_NAME, day_of_name

__all__ = ["files_of", "is_ours", "mend"]

_FENCE_NAME_BEFORE = "caught_up"  # written by version 0.1.0, with another content
_DIRECTORY_MODE_BEFORE = 0o750  # the mode with which version 0.1.0 created the directory


def is_ours(name: str) -> bool:
    plain = next((name.removesuffix(end) for end in BESIDE if name.endswith(end)), name)
    return plain == MAIN_NAME or (day_of_name(plain) or day_of_copy(plain)) is not None or _is_beside(name)


def _is_beside(name: str) -> bool:
    return name in (FENCE_NAME, _FENCE_NAME_BEFORE, LEASE_NAME, LOCK_NAME, RESERVE_NAME) or is_request(name)


def files_of(directory: Path) -> Iterator[Path]:
    """The files of the index; none when there is no directory. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(directory)):
            if is_ours(name):
                yield directory / name


def mend(directory: Path, access: Access) -> None:
    """Set the modes of existing index files that belong to this user to those of new files. The directory keeps its
    mode, which an administrator may have set, unless it is to be shared or still has the mode of version 0.1.0. Raises
    OSError (ELOOP) for a symbolic link among the files."""
    for path in files_of(directory):
        with contextlib.suppress(FileNotFoundError):  # purged meanwhile
            access.mend(path)
    was_made_by_us = (
        stat.S_IMODE(os.stat(directory).st_mode) == _DIRECTORY_MODE_BEFORE and (directory / MAIN_NAME).exists()
    )
    if access.group is not None or was_made_by_us:
        access.mend(directory.resolve())
