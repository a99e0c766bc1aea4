"""A home with an index of many records, and `asgi-audit export` over it as a child."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from asgi_audit.control import Control
from asgi_audit.control.exports import ENDED, Export, ExportRequest, State
from asgi_audit.query.model import Grant, Query
from asgi_audit.record.codec import decode
from asgi_audit.store.base import Batch
from asgi_audit.store.sqlite import SqliteWriter
from asgi_audit.store.state import Completion
from asgi_audit.transport.base import Position
from tests.support.records import PROCESS, extent, payload
from tests.support.waiting import until

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z in ms
DAYS = 3
DAY_MS = 86_400_000
GRANT = Grant(key_id="k", role="auditor", accounts=frozenset({"acme"}))
_BATCH = 4_000


class Home:
    """`number` records of about 1.2 kB over three days, all of them complete."""

    def __init__(self, directory: Path, number: int, seed: int) -> None:
        self.directory = directory
        self.number = number
        self._digest = hashlib.sha256()
        writer = SqliteWriter(directory / "index")
        records = self._records(random.Random(seed))
        for first in range(0, number, _BATCH):
            batch = [next(records) for _ in range(min(_BATCH, number - first))]
            for data in batch:
                self._digest.update(data + b"\n")
            done = Position(first + len(batch), b"")
            writer.write(Batch(source="t", records=[decode(data) for data in batch], positions={"p": done}))
        completion = Completion(extent(START + DAYS * DAY_MS, begins=START), [], [])
        writer.write(Batch(source="t", positions={}, completion=completion))
        writer.close()
        self.control = Control(directory / "control.db")

    def _records(self, rng: random.Random) -> Iterator[bytes]:
        words = [f"{rng.getrandbits(40):x}" for _ in range(500)]
        for n in range(self.number):
            at = START + n * DAYS * DAY_MS // self.number
            body = {word: rng.choice(words) for word in rng.sample(words, 18)}
            yield payload(n + 1, at, process=PROCESS, path=f"/orders/{rng.randrange(1000)}", body=body)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content of an export of everything."""
        return self._digest.hexdigest()

    def move(self, directory: Path) -> None:
        """Call it when the home's files have been moved."""
        self.directory = directory
        self.control = Control(directory / "control.db")

    def ask(self) -> Export:
        query = Query(accounts=GRANT.accounts, start=START, end=START + DAYS * DAY_MS, order="oldest")
        return self.control.exports.request(GRANT, ExportRequest(query, {}))[0]

    def get(self, export: Export) -> Export:
        found = self.control.exports.get(export.id, days=7)
        assert found is not None
        return found

    def start(self) -> subprocess.Popen[bytes]:
        arguments = ["-m", "asgi_audit", "export", "--home", str(self.directory), "--quiet"]
        return subprocess.Popen([sys.executable, *arguments], env={**os.environ, "ASGI_AUDIT_HOME": ""})

    def wait(self, export: Export, child: subprocess.Popen[bytes], records: int | None = None) -> Export:
        """Until it has ended, or contains more than `records`."""

        def reached() -> Export | None:
            found = self.get(export)
            written = found.progress.records if found.progress else 0
            if found.state in ENDED or (records is not None and written > records):
                return found
            assert child.poll() is None, f"the exporter ended with code {child.returncode}"
            return None

        found = until(reached, "the export goes on", 600)
        assert found is not None
        return found

    def faults(self, export: Export) -> list[str]:
        """The problems of its object."""
        found = self.get(export)
        if found.state is not State.COMPLETE:
            return [f"it is {found.state}: {found.reason}"]
        digest, lines = hashlib.sha256(), 0
        with gzip.open(self.directory / "exports" / f"{export.id}.ndjson.gz") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                lines += piece.count(b"\n")
        wrong = [f"{lines} lines for {self.number} records"] if lines != self.number else []
        return wrong + (["its bytes are not those of the records"] if digest.hexdigest() != self.sha256 else [])

    def close(self) -> None:
        self.control.close()


def kib(pid: int, name: str) -> int:
    """`VmRSS` or `VmHWM` of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"{name} is not known")
