"""An index that does not exist yet, and a reader of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_audit.store.sqlite import SqliteReader


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def reader(index: Path) -> Iterator[SqliteReader]:
    reader = SqliteReader(index)
    yield reader
    reader.close()
