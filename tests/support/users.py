"""A second user, for tests of access rights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

__all__ = ["GROUP", "NEEDS_ROOT", "OTHER", "as_other"]

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="two real users are needed: run the tests as root, as CI does (sudo make test)"
)
OTHER, GROUP = 54_321, 54_322  # a user and a group without an account; the kernel needs only numbers


def as_other(act: Callable[[], object], groups: Sequence[int] = (), user: int = OTHER) -> str:
    """The result of `act`, or the name of its exception, run by another user in a forked child: a developer's
    interpreter is often in a place where other users may not execute it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(list(groups))
            os.setgid(user)
            os.setuid(user)
            try:
                said = str(act())
            except Exception as e:
                said = f"{type(e).__name__}: {e}"
            os.write(writing, said.encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    said = b""
    while part := os.read(reading, 65_536):
        said += part
    os.close(reading)
    os.waitpid(pid, 0)
    return said.decode()
