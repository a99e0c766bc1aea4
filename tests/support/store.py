"""A small store for the tests of its readers: the meaning of the contract without its machinery."""

from __future__ import annotations

import threading
from collections.abc import Callable

from asgi_audit.record.codec import Decoded
from asgi_audit.store.base import IndexVersion, Query, Row, Snapshot
from asgi_audit.store.state import Completeness, Incident, Process


class TinyStore:
    """Rows in memory, visible at once. `read_until` is set by the test."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, Decoded]] = []  # (row id, index sequence, record)
        self.published = 0
        self.read_until = 0.0
        self.opened = 0
        self.completeness = Completeness(None, 0, 0)
        self.at_completeness = lambda: None  # called right after it was read
        self.lock = threading.Lock()

    def add(self, *records: Decoded) -> None:
        with self.lock:
            for r in records:
                taken = {row[0] for row in self.rows if row[0] >> 16 == r.timestamp}
                self.published += 1
                self.rows.append(((r.timestamp << 16) + len(taken), self.published, r))

    def reader(self) -> TinyReader:
        self.opened += 1
        return TinyReader(self)


class TinyReader:
    """Also checks that one thread at a time uses it."""

    def __init__(self, store: TinyStore) -> None:
        self._store = store
        self._used = threading.Lock()
        self.closed = False

    def check(self) -> None:
        pass

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        pass

    def index(self) -> IndexVersion:
        return IndexVersion()

    def snapshot(self) -> Snapshot:
        with self._alone():
            return Snapshot(self._store.published, self._store.read_until)

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int
    ) -> tuple[list[Row], bool]:
        with self._alone(), self._store.lock:
            found = sorted(
                (
                    Row(row_id, r.data, r.cuts)
                    for row_id, sequence, r in self._store.rows
                    if sequence <= published
                    and (before is None or row_id < before)
                    and query.start <= r.timestamp < query.end
                    and (query.accounts is None or r.account in query.accounts)
                    and query.service in (None, r.service)
                    and query.instance in (None, r.instance)
                    and query.method in (None, r.method)
                ),
                reverse=True,
            )
        rows: list[Row] = []
        size = 0
        for row in found[:limit]:
            size += len(row.record)
            if rows and size > bytes_max:
                break
            rows.append(row)
        return rows, len(found) > len(rows)

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        with self._alone(), self._store.lock:
            return any(
                (r.service, r.instance) == (service, instance) and (accounts is None or r.account in accounts)
                for _, _, r in self._store.rows
            )

    def processes(self) -> list[Process]:
        return []

    def completeness(self, start: int, end: int, accounts: frozenset[str] | None = None) -> Completeness:
        with self._alone():
            found = self._store.completeness
            self._store.at_completeness()
            return found

    def incidents(self, start: int, end: int, *, limit: int = 1000) -> list[Incident]:
        return []

    def dead_letters(self) -> int:
        return 0

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def _alone(self) -> _Alone:
        assert not self.closed
        return _Alone(self._used)


class _Alone:
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        assert self._lock.acquire(blocking=False), "two threads use one reader"

    def __exit__(self, *_: object) -> None:
        self._lock.release()
