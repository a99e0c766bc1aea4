"""A short run of `kill_indexer`, in every test run."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fault.kill_indexer import run


def test_records_are_indexed_once_when_the_indexer_is_killed(tmp_path: Path) -> None:
    assert run(5, random.SystemRandom().getrandbits(32), per_second=500, home=tmp_path)
