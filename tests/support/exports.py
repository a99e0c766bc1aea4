"""Exports over a store in memory: a clock that the test sets, a directory, and a runner that the test steps."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgi_audit.control import Control
from asgi_audit.control.exports import ENDED, Export, ExportRequest
from asgi_audit.exporting.directory import DirectoryTarget
from asgi_audit.exporting.runner import Runner
from asgi_audit.exporting.service import ExportService
from asgi_audit.query.model import Grant, Query
from asgi_audit.settings import Settings
from asgi_audit.store.base import Batch, Reader
from asgi_audit.store.state import Completion
from asgi_audit.transport.base import Position
from tests.support.memory_store import MemoryStore
from tests.support.records import extent, foreign

ACME = Grant(key_id="k1", role="auditor", accounts=frozenset({"acme"}))
DAY_MS = 1_704_067_200_000
HOUR_MS = 3_600_000


def exports_of(control: Control, **given: Any) -> ExportService:
    """Over a directory beside the control database."""
    target = DirectoryTarget(control.path.parent / "exports")
    regions = Settings().regions_of_groups
    return ExportService(control, target, **{"public_url": "http://api", "regions": regions, **given})


class World:
    """The day has passed and is complete unless `until` says otherwise. `now`: the clock, seconds."""

    def __init__(self, directory: Path, **given: Any) -> None:
        self.now = DAY_MS / 1000 + 86_400
        self.monotonic = 0.0
        self.directory = directory / "exports"
        self.control = Control(directory / "control.db", clock=lambda: self.now)
        self.exports = self.control.exports
        self.store = MemoryStore(clock=lambda: DAY_MS / 1000)
        self.target = DirectoryTarget(self.directory)
        self.index = "one"
        self.given = {"free_bytes_min": 0, **given}
        self.runner = self.new_runner()
        self._count = 0
        self.complete(DAY_MS + 86_400_000)

    def new_runner(self, open_reader: Callable[[], Reader] | None = None, **given: Any) -> Runner:
        def clock() -> float:
            self.monotonic += 100.0
            return self.monotonic

        return Runner(
            self.exports,
            given.pop("target", self.target),
            open_reader or (lambda: self.store),  # type: ignore[arg-type, return-value]
            named_index=lambda: self.index,
            monotonic=clock,
            **{**self.given, **given},
        )

    def complete(self, until: int | None) -> None:
        """T, in ms."""
        completion = Completion(extent(until, begins=DAY_MS), [], [])
        self.store.write(Batch(source="t", positions={}, completion=completion))

    def add(self, count: int, *, account: str = "acme", start: int = DAY_MS, **given: Any) -> None:
        records = [
            foreign(start + n, account=account, name=f"{account}-{self._count + n}", **given) for n in range(count)
        ]
        self._count += count
        self.store.write(Batch(source="t", records=records, positions={"p": Position(self._count, b"")}))

    def ask(
        self, start: int = DAY_MS, end: int = DAY_MS + HOUR_MS, grant: Grant = ACME, token: str = "", **filters: Any
    ) -> Export:
        query = Query(accounts=grant.accounts, start=start, end=end, order="oldest", **filters)
        return self.exports.request(grant, ExportRequest(query, {}, token))[0]

    def get(self, export: Export) -> Export:
        found = self.exports.get(export.id, days=7)
        assert found is not None
        return found

    def settle(self, export: Export, runner: Runner | None = None, steps: int = 10_000) -> Export:
        """Steps until it has ended."""
        for _ in range(steps):
            found = self.get(export)
            if found.state in ENDED:
                return found
            (runner or self.runner).step()
        raise AssertionError(f"it has not ended: {found}")

    def lines(self, export: Export) -> list[bytes]:
        path = self.target.open_path(export.id)
        assert path is not None
        return gzip.decompress(path.read_bytes()).splitlines()

    def manifest(self, export: Export) -> dict[str, Any]:
        path = self.target.open_path(export.id, manifest=True)
        assert path is not None
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def files(self) -> list[str]:
        return sorted(p.name for p in self.directory.iterdir()) if self.directory.exists() else []

    def close(self) -> None:
        self.runner.close()
        self.control.close()
