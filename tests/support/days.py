"""Day files as versions before 0.2 created them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from asgi_audit.store.sqlite.schema import DAY_1

__all__ = ["days_of_version_1"]


@contextmanager
def days_of_version_1() -> Iterator[None]:
    """In the block, writers begin days in version 1."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("asgi_audit.store.sqlite.day.DAY", DAY_1)
        patched.setattr("asgi_audit.store.sqlite.day.DAY_VERSION", 1)
        yield
