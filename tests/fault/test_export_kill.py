"""The exporter, killed a few times; `make kill` does it twenty times."""

from __future__ import annotations

from pathlib import Path

from . import kill_exports


def test_export_holds_every_record_once_when_its_process_is_killed_while_it_writes(tmp_path: Path) -> None:
    assert kill_exports.run(4, 30_000, seed=1, directory=tmp_path)
