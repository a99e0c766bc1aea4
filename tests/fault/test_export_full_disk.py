"""The disk of the exports is really full: the export fails, reports it, and frees its space."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.export_home import Home

from asgi_audit.control.exports import State

pytestmark = pytest.mark.full


@pytest.mark.parametrize("what", ["exports alone", "home and exports"])
def test_full_disk_ends_in_failed_and_gives_the_room_back(tmp_path: Path, small_disk: Path, what: str) -> None:
    """Method: nearly all of the disk is filled, so the file does not fit. With the home on the same disk, noting the
    failure needs space as well."""
    home = Home(tmp_path / "home", 40_000, seed=2)
    directory = home.directory
    if what == "home and exports":
        home.close()
        subprocess.run(["cp", "-r", f"{directory}/control.db", f"{small_disk}/"], check=True)
        directory = small_disk
        home.move(directory)
    exports = small_disk / "exports"
    export = home.ask()
    with (small_disk / "filler").open("wb", 0) as filler:
        while os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 3 << 20:
            filler.write(bytes(1 << 20))
    before = os.statvfs(small_disk).f_bavail
    # Without the reserve that an export normally leaves, so that it reaches the end of the disk.
    code = (
        "import sys, threading\n"
        "from asgi_audit.exporting import runner\n"
        "runner._FREE_BYTES = -(1 << 30)\n"
        "from asgi_audit.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["export", "--quiet", "--home", str(directory), "--store", f"sqlite:///{tmp_path}/home/index"]
    child = subprocess.Popen([sys.executable, "-c", code, *arguments, "--export-path", str(exports)])
    try:
        found = home.wait(export, child)
    finally:
        child.kill()
        child.wait()
    assert (found.state, found.reason) == (State.FAILED, "the disk of the exports has too little free space for it")
    assert list(exports.iterdir()) == []
    assert os.statvfs(small_disk).f_bavail > before - (1 << 20) // os.statvfs(small_disk).f_frsize
    home.close()
