"""Small disks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip("other platform: a tmpfs cannot be mounted here: run as root, in a container with --privileged")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
