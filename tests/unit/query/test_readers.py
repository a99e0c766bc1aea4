"""Queries to the index: keys take turns, no key holds all threads, abandoned queries are dropped or stopped."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.support.store import TinyReader, TinyStore

from asgi_audit.errors import StoreError
from asgi_audit.query import readers as module
from asgi_audit.query.readers import READERS, RUNNING_MAX, Readers
from asgi_audit.store.base import Reader

SECONDS = 20.0


class Gates:
    """Queries that block until the test releases them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._changed = threading.Condition()
        self._open = False

    def question(self, name: str) -> Callable[[Reader], str]:
        def ask(_: Reader) -> str:
            with self._changed:
                self.begun.append(name)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self._open, SECONDS)
            return name

        return ask

    async def until_begun(self, number: int) -> None:
        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(lambda: len(self.begun) >= number, SECONDS)

        await asyncio.to_thread(wait)

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()


def run(
    work: Callable[[Readers], Coroutine[Any, Any, None]],
    open_reader: Callable[[], Reader] | None = None,
    threads: int = READERS,
) -> None:
    store = TinyStore()

    async def bounded() -> None:
        readers = Readers(open_reader or store.reader, threads)
        try:
            async with asyncio.timeout(SECONDS):
                await work(readers)
        finally:
            readers.close()

    asyncio.run(bounded())


class Page:
    """Can be watched by a weak reference."""


def test_answer_of_a_cancelled_query_is_freed_although_its_traceback_is_kept() -> None:
    """Tracebacks are often part of a cycle, which only the next full collection of garbage finds; a page has up to
    8 MiB."""

    async def work(readers: Readers) -> None:
        gates = Gates()
        blocks = gates.question("a")
        pages: list[weakref.ref[Page]] = []

        def ask(reader: Reader) -> Page:
            blocks(reader)
            page = Page()
            pages.append(weakref.ref(page))
            return page

        task = asyncio.create_task(readers.ask(ask, "a"))
        await gates.until_begun(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        gates.open()
        assert await readers.ask(lambda _: "the same thread, afterwards", "a")
        assert [page() for page in pages] == [None]
        assert caught.value.__traceback__ is not None

    gc.disable()
    try:
        run(work, threads=1)
    finally:
        gc.enable()


def test_one_key_leaves_threads_for_others_when_its_questions_are_long() -> None:
    async def work(readers: Readers) -> None:
        gates = Gates()
        tasks = [asyncio.create_task(readers.ask(gates.question("a"), "a")) for _ in range(20)]
        await gates.until_begun(RUNNING_MAX)
        assert await readers.ask(lambda _: "answered", "b") == "answered"
        tasks += [asyncio.create_task(readers.ask(gates.question("b"), "b")) for _ in range(20)]
        await gates.until_begun(READERS - 1)
        assert await readers.ask(lambda _: "answered", "c") == "answered"
        assert sorted(gates.begun) == ["a", "a", "b"]
        gates.open()
        await asyncio.gather(*tasks)

    run(work)


def test_keys_take_turns_whatever_the_number_of_their_questions() -> None:
    async def work(readers: Readers) -> None:
        gates = Gates()
        order: list[str] = []
        held = [asyncio.create_task(readers.ask(gates.question(k), k)) for k in "wxyz"]
        await gates.until_begun(READERS)
        tasks = [asyncio.create_task(readers.ask(lambda _, k=k: order.append(k), k)) for k in "aaaaaaaabc"]  # type: ignore[misc]
        await asyncio.sleep(0)
        gates.open()
        await asyncio.gather(*held, *tasks)
        assert order.index("b") < 5
        assert order.index("c") < 5

    run(work)


def test_question_is_never_asked_when_its_asker_left_while_it_waited() -> None:
    async def work(readers: Readers) -> None:
        gates = Gates()
        held = [asyncio.create_task(readers.ask(gates.question("a"), "a")) for _ in range(RUNNING_MAX)]
        await gates.until_begun(RUNNING_MAX)
        asked: list[int] = []
        left = asyncio.create_task(readers.ask(lambda _: asked.append(1), "a"))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        gates.open()
        await asyncio.gather(*held)
        await readers.ask(lambda _: None, "a")
        assert not asked
        assert not readers._waiting

    run(work)


def test_question_is_stopped_when_its_asker_leaves_while_it_runs() -> None:
    begun, stopped = threading.Event(), threading.Event()

    class Watched(TinyReader):
        def stop_when(self, told: Callable[[], bool]) -> None:
            self.told = told

    def ask(reader: Any) -> None:
        begun.set()
        for _ in range(20_000):
            if reader.told():
                stopped.set()
                raise StoreError("stopped")
            threading.Event().wait(0.001)

    async def work(readers: Readers) -> None:
        task = asyncio.create_task(readers.ask(ask, "a"))
        assert await asyncio.to_thread(begun.wait, SECONDS)
        task.cancel()
        assert await asyncio.to_thread(stopped.wait, SECONDS)
        assert await readers.ask(lambda reader: reader.told(), "a") is False  # type: ignore[attr-defined]

    store = TinyStore()
    opened: list[Watched] = []

    def open_reader() -> Reader:
        opened.append(Watched(store))
        return opened[-1]

    run(work, open_reader, threads=1)
    assert len(opened) == 1  # a stopped query does not need a new reader


def test_sqlite_stops_a_long_question(tmp_path: Any) -> None:
    from asgi_audit.store.sqlite.reader import SqliteReader
    from asgi_audit.store.sqlite.writer import SqliteWriter

    SqliteWriter(tmp_path).close()
    reader = SqliteReader(tmp_path)
    asked = 0

    def told() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    reader.stop_when(told)
    reader.snapshot()
    connection = reader._main.get()
    assert connection is not None
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(Exception, match="interrupted"):
        connection.execute(endless).fetchall()
    reader.stop_when(lambda: False)
    assert reader.snapshot().published == 0
    reader.close()


def test_close_ends_what_waits_and_what_runs() -> None:
    async def work() -> None:
        readers = Readers(TinyStore().reader)
        gates = Gates()
        tasks = [asyncio.create_task(readers.ask(gates.question("a"), "a")) for _ in range(5)]
        await gates.until_begun(RUNNING_MAX)
        threading.Timer(0.05, gates.open).start()
        await asyncio.to_thread(readers.close)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[:2] == ["a", "a"]
        assert all(isinstance(e, asyncio.CancelledError) for e in found[2:])
        with pytest.raises(StoreError, match="closed"):
            await readers.ask(lambda _: None)

    asyncio.run(work())


def test_questions_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 3)

    async def work(readers: Readers) -> None:
        gates = Gates()
        tasks = [asyncio.create_task(readers.ask(gates.question("a"), "a")) for _ in range(3)]
        await gates.until_begun(RUNNING_MAX)
        with pytest.raises(StoreError, match="more than 3"):
            await readers.ask(lambda _: None, "b")
        gates.open()
        await asyncio.gather(*tasks)

    run(work)


def test_one_thread_answers_when_questions_come_one_after_the_other() -> None:
    """Its reader has the caches of the earlier queries."""

    async def work(readers: Readers) -> None:
        seen = {await readers.ask(lambda _: threading.get_ident(), "a") for _ in range(20)}
        assert len(seen) == len(readers._threads) == 1

    run(work)


def test_thread_that_was_busy_last_answers_next_when_several_are_idle() -> None:
    def wait_until_idle(readers: Readers) -> None:
        pause = threading.Event()
        while len(readers._idle) < READERS:
            pause.wait(0.001)

    async def work(readers: Readers) -> None:
        gates = Gates()
        held = [asyncio.create_task(readers.ask(gates.question(k), k)) for k in "wxyz"]
        await gates.until_begun(READERS)
        gates.open()
        await asyncio.gather(*held)
        seen = set()
        for _ in range(2 * READERS):
            await asyncio.to_thread(wait_until_idle, readers)
            seen.add(await readers.ask(lambda _: threading.get_ident(), "a"))
        assert len(seen) == 1

    run(work)
