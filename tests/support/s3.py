"""A server of S3-compatible storage that checks signatures: versitygw. (moto, s3rver and gofakes3 answer forged and
expired URLs with 200.)"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import listens, until

__all__ = ["BUCKET", "HOW_TO_GET_ONE", "found", "serving"]

BUCKET = "audit-exports"
KEY, SECRET = "tests", "not-a-secret-of-anybody"
HOW_TO_GET_ONE = (
    "versitygw is not installed: with Go, `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`, and put it "
    "into PATH or name it in ASGI_AUDIT_TEST_VERSITYGW"
)


def found() -> str | None:
    """The path of the command."""
    beside_go = Path.home() / "go" / "bin" / "versitygw"
    named = os.environ.get("ASGI_AUDIT_TEST_VERSITYGW") or shutil.which("versitygw")
    return named or (str(beside_go) if beside_go.is_file() else None)


@contextlib.contextmanager
def serving(command: str, directory: Path) -> Iterator[str]:
    """Yields the URL of a server with an empty bucket, over `directory`."""
    port = free_port()
    root, beside = directory / "buckets", directory / "attributes"
    (root / BUCKET).mkdir(parents=True)
    beside.mkdir()
    arguments = [command, "--access", KEY, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "--quiet"]
    # Beside the files: not every file system has extended attributes.
    child = subprocess.Popen([*arguments, "posix", "--sidecar", str(beside), str(root)], stdout=subprocess.DEVNULL)
    try:
        until(lambda: child.poll() is not None or listens(port), "versitygw listens")
        if child.poll() is not None:
            raise RuntimeError(f"versitygw ended with code {child.returncode}")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()
