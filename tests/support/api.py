"""The API over a store in memory, with keys for two accounts; called through httpx without a socket."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import httpx
from starlette.applications import Starlette

from asgi_audit.api.app import create_app
from asgi_audit.api.auth import Keys
from asgi_audit.api.issuer import Issuer
from asgi_audit.control import Control
from asgi_audit.exporting.directory import DirectoryTarget
from asgi_audit.exporting.runner import Runner
from asgi_audit.query.service import QueryService
from asgi_audit.record.codec import Decoded
from asgi_audit.settings import Settings
from asgi_audit.store.base import Batch, Reader
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.transport.base import Position
from tests.support.exports import exports_of
from tests.support.memory_store import MemoryStore

DAY = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}
DAY_MS = 1_704_067_200_000


class _Failing:
    """The store of an Api, or its failure."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        if self._api.failure is not None and name != "close":
            raise self._api.failure
        return getattr(self._api.store, name)


class Api:
    """`acme`, `beta`, `both`, `everything`: keys in clear. `failure`: raised by every read of the index. `issuer`:
    whose tokens are accepted."""

    def __init__(
        self, directory: Path, *, wait_seconds: float = 0.0, issuer: Issuer | None = None, **given: Any
    ) -> None:
        self.store = MemoryStore(clock=lambda: DAY_MS / 1000)
        clock = given.get("clock", time.time)
        self.control = Control(directory / "control.db", clock=clock)
        self.acme_id, self.acme = self.control.create_key("reader", ["acme"])
        _, self.beta = self.control.create_key("auditor", ["beta"])
        _, self.both = self.control.create_key("reader", ["acme", "beta"])
        _, self.everything = self.control.create_key("reader", "*")
        self.service = QueryService(self.reader, self.control.secret(), wait_seconds=wait_seconds, **given)
        self.exports = exports_of(self.control, clock=clock, issuer=issuer.name if issuer else "")
        self.runner = Runner(
            self.control.exports, DirectoryTarget(directory / "exports"), self.reader, free_bytes_min=0
        )
        keys = Keys(self.control, issuer=issuer)
        self.app: Starlette = create_app(self.service, self.control, Settings(), self.exports, keys=keys)
        self._count = 0
        self.failure: Exception | None = None

    def reader(self) -> Reader:
        return cast(Reader, _Failing(self))

    def add(self, *records: Decoded) -> None:
        self._count += len(records)
        self.store.write(Batch(source="t", records=records, positions={"p": Position(self._count, b"")}))

    def run_exports(self) -> None:
        """Until no requested export can advance."""
        self.control.exports.beat(self.runner.id)
        for _ in range(20):
            self.runner.step()

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)

    def close(self) -> None:
        self.runner.close()
        self.service.close()
        self.control.close()


class SqliteApi(Api):
    """Over an index on disk."""

    def __init__(self, directory: Path, **given: Any) -> None:
        directory.mkdir(exist_ok=True)
        self._index = directory / "index"
        super().__init__(directory, **given)
        self.store = cast(Any, SqliteWriter(self._index, clock=lambda: DAY_MS / 1000))

    def reader(self) -> Reader:
        return cast(Reader, SqliteReader(self._index))

    def close(self) -> None:
        super().close()
        cast(SqliteWriter, self.store).close()
