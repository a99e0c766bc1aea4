"""Settings of the processes of `serve`."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

HEAPS = """
import ctypes, sys, threading
from asgi_audit.cli.processes import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
met = threading.Barrier(4)
def take():
    kept = [bytes(4_000) for _ in range(1_000)]
    met.wait(20)
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="malloc is not glibc's: run it on glibc")
def test_threads_share_one_heap(tmp_path: Path) -> None:
    heaps = {}
    for how in ("shared", "own"):
        file = tmp_path / how
        subprocess.run([sys.executable, "-c", HEAPS, how, str(file)], check=True, timeout=60)
        heaps[how] = file.read_text().count("<heap nr=")
    assert heaps["shared"] == 1
    assert heaps["own"] > 1
