"""Goal: while records are indexed (including late ones and bursts of one millisecond), every query pages through
exactly the matching records of its snapshot, newest first, with any limits, and also when it continues with a new POST.

Method: hypothesis interleaves indexing, starting and paging; a list in this file knows what was indexed before each
start."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.memory_store import MemoryStore
from tests.support.records import foreign

from asgi_audit.query.model import Grant
from asgi_audit.query.service import QueryService
from asgi_audit.record.codec import Decoded
from asgi_audit.store.base import Batch, Query, Reader, Writer
from asgi_audit.store.sqlite.reader import SqliteReader
from asgi_audit.store.sqlite.writer import SqliteWriter
from asgi_audit.transport.base import Position

MIDNIGHT = 1_700_006_400_000  # a day's boundary lies in the middle of the timestamps, so that several files are read
SPAN = 40  # a small span makes bursts of one millisecond
START, END = MIDNIGHT - SPAN, MIDNIGHT + SPAN
ACCOUNTS = ("acme", "beta")
PAGE_BYTES = 4_000  # some six records: pages end by size, too

Add = Callable[[list[Decoded]], None]
Store = tuple[Add, Callable[[], Reader]]


def adding(writer: Writer) -> Add:
    count = 0

    def add(records: list[Decoded]) -> None:
        nonlocal count
        count += len(records)
        written = writer.write(Batch(source="test", records=records, positions={"p": Position(count, b"d" * 32)}))
        assert written.inserted == len(records)

    return add


@contextmanager
def memory() -> Iterator[Store]:
    store = MemoryStore(clock=lambda: END / 1000)
    yield adding(store), lambda: store


@contextmanager
def sqlite() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        writer = SqliteWriter(Path(directory), clock=lambda: END / 1000)
        try:
            yield adding(writer), lambda: SqliteReader(Path(directory))
        finally:
            writer.close()


STORES: dict[str, Any] = {"memory": memory, "sqlite": sqlite}


@dataclass
class Walk:
    """One client: its query, what it must find, what it found."""

    grant: Grant
    query: Query
    expected: list[str]
    execution: str
    token: str | None = None
    done: bool = False
    found: list[str] = field(default_factory=list)


one_record = st.tuples(
    st.integers(START, END - 1), st.sampled_from(ACCOUNTS), st.sampled_from(("GET", "POST")), st.sampled_from("ij")
)
windows = st.tuples(st.integers(START, END), st.integers(START, END)).map(sorted) | st.just([START, END])
starts = st.tuples(
    windows,
    st.sampled_from((frozenset({"acme"}), frozenset({"beta"}), frozenset(ACCOUNTS), None)),
    st.sampled_from((None, "GET")),
    st.sampled_from((None, "i")),
)
advances = st.tuples(st.sampled_from(("page", "post")), st.tuples(st.integers(0, 3), st.integers(1, 3)))
# Each example begins with records and a client that pages: otherwise most would do nothing of interest.
begun = st.tuples(
    st.tuples(st.just("index"), st.lists(one_record, min_size=6, max_size=20)),
    st.tuples(st.just("start"), st.just(([START, END], None, None, None))),
    advances,
).map(list)
steps = st.builds(
    list.__add__,
    begun,
    st.lists(
        st.tuples(st.just("index"), st.lists(one_record, min_size=1, max_size=12))
        | st.tuples(st.just("start"), starts)
        | advances
        | advances,
        min_size=4,
        max_size=30,
    ),
)


@pytest.mark.parametrize("name", STORES)
@given(steps=steps)
def test_paging_neither_skips_nor_repeats_when_records_are_indexed_meanwhile(name: str, steps: list[Any]) -> None:
    with STORES[name]() as (add, open_reader):
        service = QueryService(open_reader, b"s" * 32, wait_seconds=0, page_bytes_max=PAGE_BYTES)
        try:
            asyncio.run(_interleave(service, add, steps))
        finally:
            service.close()


async def _interleave(service: QueryService, add: Add, steps: list[Any]) -> None:
    indexed: list[tuple[int, Decoded]] = []  # in the order of indexing
    walks: list[Walk] = []
    for step, given_ in steps:
        if step == "index":
            batch = [
                foreign(at, account=account, method=method, instance=instance, name=f"{len(indexed) + n:06d}")
                for n, (at, account, method, instance) in enumerate(given_)
            ]
            indexed += [(r.timestamp, r) for r in batch]
            add(batch)
        elif step == "start":
            walks.append(await _start(service, indexed, given_))
        elif walks:
            which, limit = given_
            await _advance(service, walks[which % len(walks)], limit, by_post=step == "post")
    for walk in walks:
        while not walk.done:
            await _advance(service, walk, 5, by_post=False)
        assert walk.found == walk.expected


async def _start(service: QueryService, indexed: list[tuple[int, Decoded]], asked: Any) -> Walk:
    (start, end), accounts, method, instance = asked
    grant = Grant(key_id="k", role="reader", accounts=accounts)
    query = Query(accounts=accounts, start=start, end=end, method=method, instance=instance)
    matching = [
        (at, n, r.id)
        for n, (at, r) in enumerate(indexed)
        if start <= at < end
        and (accounts is None or r.account in accounts)
        and method in (None, r.method)
        and instance in (None, r.instance)
    ]
    # Newest first; within one millisecond, what was indexed later is newer.
    expected = [name for _, _, name in sorted(matching, reverse=True)]
    return Walk(grant, query, expected, await service.start(grant, query, dialect="trail"))


async def _advance(service: QueryService, walk: Walk, limit: int, *, by_post: bool) -> None:
    if walk.done:
        return
    token = walk.token
    if by_post and token is not None:
        walk.execution = await service.start(walk.grant, walk.query, token, dialect="trail")
        token = None
    page = await service.page(walk.grant, walk.execution, token, limit, dialect="trail")
    assert len(page.rows) <= limit
    assert sum(len(row.record) for row in page.rows[:-1]) <= PAGE_BYTES
    assert page.rows or page.next_token is None
    walk.found += [row.record.split(b'"id":"', 1)[1][:6].decode() for row in page.rows]
    walk.token = page.next_token
    walk.done = page.next_token is None
