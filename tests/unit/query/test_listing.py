"""Lists: how often a page uses a reader's thread, and the bytes that it reserves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import foreign

from asgi_audit.query.admission import BYTES_KEY_MAX, Lease
from asgi_audit.query.listing import Listed
from asgi_audit.query.model import Grant
from asgi_audit.query.service import PAGE_BYTES_MAX, QueryService
from asgi_audit.store.base import Batch, Query
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter

EVERYTHING = Grant(key_id="e", role="auditor", accounts=None)
ALL = Query(accounts=None, start=0, end=100)


class Visits:
    """`visits`: of the readers' threads. `held`: bytes reserved during each count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.visits = 0
        self.held: list[int] = []
        writer = SqliteWriter(directory)
        writer.write(Batch(source="t", positions={}, records=[foreign(n, name=f"r{n}") for n in range(5)]))
        writer.close()
        self.service = service = QueryService(lambda: SqliteReader(directory), b"s" * 32, wait_seconds=0.0)
        ask, count = service._readers.ask, SqliteReader.count

        async def asking(*given: Any) -> Any:
            self.visits += 1
            return await ask(*given)

        def counting(reader: SqliteReader, *given: Any, **more: Any) -> int:
            self.held.append(service.admission.bytes)
            return count(reader, *given, **more)

        monkeypatch.setattr(service._readers, "ask", asking)
        monkeypatch.setattr(SqliteReader, "count", counting)

    async def page(self, lease: Lease, query: Query = ALL, **given: Any) -> Listed:
        return await self.service.listings.page(
            EVERYTHING, query, dialect="logs", limit=2, lease=lease, show=bytes, **given
        )

    def run(self, work: Callable[[], Any]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await work()

        try:
            asyncio.run(bounded())
        finally:
            self.service.close()


def test_page_visits_a_thread_once_whether_first_or_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = Visits(monkeypatch, tmp_path)

    async def work() -> None:
        cursor, seen = None, 0
        for visits in (1, 2, 3):
            with asked.service.admission.enter("e") as lease:
                listed = await asked.page(lease, cursor=cursor)
                assert asked.visits == visits
                assert lease.bytes == sum(len(row.record) for row in listed.rows)
            assert listed.total == 5
            seen += len(listed.rows)
            cursor = listed.cursor
        assert (seen, cursor) == (5, None)
        assert asked.service.admission.bytes == 0

    asked.run(work)
    assert asked.held == [PAGE_BYTES_MAX]


def test_count_holds_no_bytes_when_half_of_them_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A count may take two seconds, in which others need the bytes more."""
    asked = Visits(monkeypatch, tmp_path)

    async def work() -> None:
        admission = asked.service.admission
        with admission.enter("other") as other, admission.enter("e") as lease:
            await other.reserve(BYTES_KEY_MAX - PAGE_BYTES_MAX + 1)
            listed = await asked.page(lease)
            assert (len(listed.rows), listed.total) == (2, 5)
        assert admission.bytes == 0

    asked.run(work)
    assert asked.held == [BYTES_KEY_MAX - PAGE_BYTES_MAX + 1]
    assert asked.visits == 2


@pytest.mark.parametrize(
    ("query", "given"),
    [(ALL, {"skip": 5}), (Query(accounts=None, start=7, end=7), {}), (Query(accounts=None, start=50, end=60), {})],
)
def test_page_without_rows_reserves_nothing_in_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, query: Query, given: dict[str, Any]
) -> None:
    asked = Visits(monkeypatch, tmp_path)

    async def work() -> None:
        with asked.service.admission.enter("e") as lease:
            listed = await asked.page(lease, query, **given)
            assert (listed.rows, listed.cursor) == ([], None)
            assert lease.bytes == 0

    asked.run(work)
    assert asked.visits == 1
