"""The query service: waiting for earlier requests, snapshots, bounds, and readers that stay in their thread."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.records import foreign
from tests.support.store import TinyReader, TinyStore

from asgi_audit.errors import QueryError, StoreError
from asgi_audit.query import readers as module
from asgi_audit.query.model import Grant
from asgi_audit.query.service import QueryService
from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import Query, Reader, Snapshot
from asgi_audit.store.state import Completeness

ACME = Grant(key_id="k", role="reader", accounts=frozenset({"acme"}))
BETA = Grant(key_id="b", role="reader", accounts=frozenset({"beta"}))
EVERYTHING = Grant(key_id="e", role="reader", accounts=None)
NOW = 1_700_000_000.0
MS = int(NOW * 1000)
OF = ("gateway", "i1")


class Clock:
    """Wall and monotonic time that only `sleep` moves; `events` run when their time has come."""

    def __init__(self) -> None:
        self.now = 0.0
        self.jump = 0.0
        self.slept: list[float] = []
        self.events: list[tuple[float, Callable[[], None]]] = []

    def wall(self) -> float:
        return NOW + self.now + self.jump

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        for event in [e for e in self.events if e[0] <= self.now]:
            self.events.remove(event)
            event[1]()
        await asyncio.sleep(0)


def made(store: TinyStore, clock: Clock | None = None, **given: Any) -> QueryService:
    clock = clock or Clock()
    given = {"wait_seconds": 0.0} | given
    return QueryService(
        store.reader, b"s" * 32, clock=clock.wall, monotonic=clock.monotonic, sleep=clock.sleep, **given
    )


def query(start: int = 0, end: int = MS * 2, **given: Any) -> Query:
    return Query(**({"accounts": None, "start": start, "end": end, "service": "gateway", "instance": "i1"} | given))


def names(page: Any) -> list[str]:
    return [r.record.split(b'"id":"')[1].split(b'"')[0].decode() for r in page.rows]


def run(store: TinyStore, work: Callable[[QueryService], Any], clock: Clock | None = None, **given: Any) -> Any:
    service = made(store, clock, **given)
    try:
        return asyncio.run(work(service))
    finally:
        service.close()


def test_start_waits_until_a_fence_has_passed_when_window_reaches_into_the_present() -> None:
    store, clock = TinyStore(), Clock()

    def indexed() -> None:
        store.add(foreign(MS, name="late"))
        store.read_until = NOW + 0.1

    store.read_until = NOW + 0.05  # before the goal: not enough
    clock.events.append((0.5, indexed))

    async def work(service: QueryService) -> list[str]:
        execution = await service.start(ACME, query(), dialect="usage", must_have_seen=OF)
        return names(await service.page(ACME, execution, dialect="usage"))

    assert run(store, work, clock, wait_seconds=2.0) == ["late"]
    assert 0.5 <= clock.now < 0.53


@pytest.mark.parametrize("jump", [0.0, -3600.0])
def test_start_answers_after_its_wait_when_the_indexer_does_not_catch_up(jump: float) -> None:
    """A wall clock that is set back during the wait must not lengthen the wait."""
    store, clock = TinyStore(), Clock()
    store.add(foreign(MS, name="a"))
    clock.events.append((0.3, lambda: setattr(clock, "jump", jump)))

    async def work(service: QueryService) -> list[str]:
        execution = await service.start(ACME, query(), dialect="usage", must_have_seen=OF)
        return names(await service.page(ACME, execution, dialect="usage"))

    assert run(store, work, clock, wait_seconds=2.0) == ["a"]
    assert 2.0 <= clock.now < 2.05


def test_start_does_not_wait_when_window_ended_before_anything_open_now_began() -> None:
    store, clock = TinyStore(), Clock()
    store.add(foreign(5, name="a"))

    async def work(service: QueryService) -> None:
        await service.start(ACME, query(end=MS - 60_000), dialect="usage", must_have_seen=OF)
        assert clock.slept == []
        await service.start(ACME, query(end=MS - 59_999), dialect="usage", must_have_seen=OF)
        assert clock.now >= 2.0

    run(store, work, clock, wait_seconds=2.0)


def test_start_waits_before_it_says_never_seen_when_window_is_past() -> None:
    store, clock = TinyStore(), Clock()

    def indexed() -> None:
        store.add(foreign(MS))
        store.read_until = NOW + 1

    clock.events.append((0.2, indexed))

    async def work(service: QueryService) -> None:
        await service.start(ACME, query(end=5), dialect="usage", must_have_seen=OF)

    run(store, work, clock, wait_seconds=2.0)
    assert 0.2 <= clock.now < 0.25


def test_start_is_missing_when_grant_never_saw_the_instance() -> None:
    store = TinyStore()
    store.add(foreign(5))

    async def work(service: QueryService) -> None:
        for grant, of in [(BETA, OF), (ACME, ("gateway", "i2")), (ACME, ("other", "i1"))]:
            with pytest.raises(QueryError) as caught:
                await service.start(grant, query(), dialect="usage", must_have_seen=of)
            assert caught.value.kind == "missing"
        await service.start(EVERYTHING, query(), dialect="usage", must_have_seen=OF)

    run(store, work)


def test_page_holds_only_the_accounts_of_the_grant_whatever_the_query_said() -> None:
    store = TinyStore()
    store.add(foreign(5, name="a"), foreign(6, name="b", account="beta"))

    async def work(service: QueryService) -> None:
        for grant, expected in [(ACME, ["a"]), (BETA, ["b"]), (EVERYTHING, ["b", "a"])]:
            asked = query(accounts=frozenset({"acme", "beta"}))
            execution = await service.start(grant, asked, dialect="usage", must_have_seen=OF)
            assert names(await service.page(grant, execution, dialect="usage")) == expected

    run(store, work)


def test_page_is_missing_when_execution_is_of_another_account_dialect_instance_or_expired() -> None:
    store, clock = TinyStore(), Clock()
    store.add(foreign(5))

    async def work(service: QueryService) -> None:
        execution = await service.start(ACME, query(), dialect="usage", must_have_seen=OF)
        await service.page(ACME, execution, dialect="usage", of=OF)
        for grant, dialect, of in [
            (BETA, "usage", OF),
            (EVERYTHING, "usage", OF),
            (ACME, "trail", None),
            (ACME, "usage", ("gateway", "i2")),
        ]:
            with pytest.raises(QueryError) as caught:
                await service.page(grant, execution, dialect=dialect, of=of)
            assert (caught.value.kind, caught.value.field) == ("missing", "execution")
        clock.jump = 3600.0
        with pytest.raises(QueryError, match="expired"):
            await service.page(ACME, execution, dialect="usage", of=OF)

    run(store, work, clock, execution_seconds=3600)


def test_post_with_next_token_continues_on_the_same_snapshot_without_waiting() -> None:
    store, clock = TinyStore(), Clock()
    store.add(*(foreign(i, name=str(i)) for i in range(5)))

    async def work(service: QueryService) -> None:
        first = await service.start(ACME, query(), dialect="usage", must_have_seen=OF)
        page = await service.page(ACME, first, None, 2, dialect="usage")
        assert names(page) == ["4", "3"]
        store.add(foreign(1, name="new"), foreign(9, name="newer"))
        waited = clock.now
        second = await service.start(ACME, query(), page.next_token, dialect="usage", must_have_seen=OF)
        assert clock.now == waited
        assert second != first
        rest = await service.page(ACME, second, None, 10, dialect="usage")
        assert (names(rest), rest.next_token) == (["2", "1", "0"], None)
        # A token of either execution belongs to their common query and snapshot.
        again = await service.page(ACME, second, page.next_token, 10, dialect="usage")
        assert names(again) == ["2", "1", "0"]
        fresh = await service.start(ACME, query(), dialect="usage", must_have_seen=OF)
        with pytest.raises(QueryError, match="another query execution"):
            await service.page(ACME, fresh, page.next_token, 10, dialect="usage")

    run(store, work, clock, wait_seconds=2.0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"start": 1}, "start"),
        ({"end": MS}, "end"),
        ({"method": "GET"}, "method"),
        ({"service": "other"}, "service"),
        ({"instance": "i2"}, "instance"),
        ({"text": "x"}, "text"),
    ],
)
def test_post_with_next_token_names_what_differs(change: dict[str, Any], field: str) -> None:
    store = TinyStore()
    store.add(*(foreign(i) for i in range(5)))

    async def work(service: QueryService) -> None:
        first = await service.start(ACME, query(), dialect="usage")
        page = await service.page(ACME, first, None, 2, dialect="usage")
        with pytest.raises(QueryError) as caught:
            await service.start(ACME, dataclasses.replace(query(), **change), page.next_token, dialect="usage")
        assert (caught.value.kind, caught.value.field) == ("invalid", field)

    run(store, work)


def test_page_does_not_depend_on_who_sealed_it_when_the_secret_is_shared() -> None:
    store = TinyStore()
    store.add(*(foreign(i, name=str(i)) for i in range(3)))

    async def begin(service: QueryService) -> tuple[str, str | None]:
        execution = await service.start(ACME, query(), dialect="usage")
        return execution, (await service.page(ACME, execution, None, 2, dialect="usage")).next_token

    execution, token = run(store, begin)

    async def finish(service: QueryService) -> list[str]:
        return names(await service.page(ACME, execution, token, 2, dialect="usage"))

    assert run(store, finish) == ["0"]


def test_waiting_queries_share_one_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: 50 waiting queries do not poll the index 50 times as often as one. Method: the first of 50 sleepers moves
    the clock, and polls are counted."""
    store = TinyStore()
    store.add(foreign(5))
    polls = 0
    original = TinyReader.snapshot

    def counting(self: TinyReader) -> Snapshot:
        nonlocal polls
        polls += 1
        return original(self)

    monkeypatch.setattr(TinyReader, "snapshot", counting)

    class Together(Clock):
        """All concurrent sleepers sleep over the same time."""

        async def sleep(self, seconds: float) -> None:
            wanted = self.now + seconds
            await asyncio.sleep(0)  # all 50 are waiting
            self.now = max(self.now, wanted)

    async def work(service: QueryService) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(service.start(ACME, query(end=TIME_END), dialect="usage"))

    run(store, work, Together(), wait_seconds=0.3)
    assert 5 < polls < 100  # 20 intervals of 10 ms and 50 last looks; unshared it would be about 1000


def test_service_refuses_with_a_retriable_error_when_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TinyStore()
    gate = threading.Event()
    original = TinyReader.snapshot

    def blocked(self: TinyReader) -> Snapshot:
        gate.wait(20)
        return original(self)

    monkeypatch.setattr(TinyReader, "snapshot", blocked)
    monkeypatch.setattr(module, "PENDING_MAX", 10)

    async def work(service: QueryService) -> None:
        tasks = [asyncio.create_task(service.start(ACME, query(), dialect="trail")) for _ in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="more than 10") as caught:
            await service.start(ACME, query(), dialect="trail")
        assert caught.value.retriable
        gate.set()
        assert len(set(await asyncio.gather(*tasks))) == 10
        await service.start(ACME, query(), dialect="trail")  # there is room again

    run(store, work)
    assert store.opened <= module.READERS + 1  # and the thread of snapshots


def test_service_gives_up_on_a_hung_index(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TinyStore()
    gate = threading.Event()
    monkeypatch.setattr(TinyReader, "snapshot", lambda self: gate.wait(20))
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)

    async def work(service: QueryService) -> None:
        with pytest.raises(StoreError, match="did not respond within"):
            await service.start(ACME, query(), dialect="trail")
        assert await service.unready() == "the index cannot be read"
        gate.set()

    run(store, work)


def test_service_looks_again_with_a_new_reader_when_an_old_one_fails() -> None:
    store = TinyStore()
    store.add(foreign(5, name="a"))
    opened: list[TinyReader] = []
    failing = [False]

    class Failing(TinyReader):
        def snapshot(self) -> Snapshot:
            if failing[0] and self is opened[0]:
                raise StoreError("the file is gone")
            return super().snapshot()

    def open_reader() -> Reader:
        opened.append(Failing(store))
        return opened[-1]

    async def work() -> None:
        service = QueryService(open_reader, b"s" * 32, wait_seconds=0)
        for _ in range(20):
            await service.start(ACME, query(), dialect="trail")
        failing[0] = True
        for _ in range(20):
            await service.start(ACME, query(), dialect="trail")
        service.close()

    asyncio.run(work())
    assert all(reader.closed for reader in opened)


def test_start_waits_for_an_index_that_is_about_to_be_made() -> None:
    store, clock = TinyStore(), Clock()
    there = [False]

    def open_reader() -> Reader:
        if not there[0]:
            raise StoreError("no index yet")
        return store.reader()

    def appear() -> None:
        there[0] = True
        store.read_until = NOW + 5

    clock.events.append((0.4, appear))

    async def work() -> None:
        service = QueryService(
            open_reader, b"s" * 32, clock=clock.wall, monotonic=clock.monotonic, sleep=clock.sleep, wait_seconds=2.0
        )
        await service.start(ACME, query(), dialect="trail")
        service.close()

    asyncio.run(work())
    assert 0.4 <= clock.now < 0.45


def test_closed_service_says_so() -> None:
    async def work(service: QueryService) -> None:
        service.close()
        with pytest.raises(StoreError, match="closed"):
            await service.start(ACME, query(), dialect="trail")

    run(TinyStore(), work)


def test_completeness_of_a_start_promises_no_more_than_its_snapshot_holds() -> None:
    """Method: a record arrives between the two reads; the snapshot may contain it, but T must be the earlier one."""
    store = TinyStore()
    store.completeness = Completeness(50, 1, 2)

    def arrive() -> None:
        store.at_completeness = lambda: None
        store.add(foreign(60))
        store.completeness = Completeness(70, 0, 0)

    store.at_completeness = arrive

    async def work() -> None:
        service = QueryService(store.reader, b"s" * 32, wait_seconds=0)
        execution = await service.execute(ACME, query(), dialect="trail")
        assert execution.completeness == Completeness(50, 1, 2)
        page = await service.page(ACME, execution.id, dialect="trail")
        assert len(page.rows) == 1
        assert page.completeness == Completeness(70, 0, 0)  # as of now
        empty = await service.execute(ACME, dataclasses.replace(query(), start=5, end=5), dialect="trail")
        assert (await service.page(ACME, empty.id, dialect="trail")).completeness.until == 70
        service.close()

    asyncio.run(work())
