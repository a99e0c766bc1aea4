"""Runs queries on the index: a pool of threads, each with one reader, and a queue that is fair between keys.

Invariants: at most `PENDING_MAX` queries wait or run. A key runs at most `RUNNING_MAX` at once, and the last free
thread is for a key that runs none, so that one key's long queries never occupy all threads. Keys take turns, whatever
the number of their queries. A query whose caller left, or waited for `ANSWER_SECONDS`, is dropped from the queue, or
stopped where it runs. The thread that was busy last runs the next query: the caches of its reader (pages of SQLite,
blocks, counts) serve the following pages of a list. Nothing is stored, so a crash loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import StoreError
from ..store.base import Reader

__all__ = ["ANSWER_SECONDS", "PENDING_MAX", "READERS", "RUNNING_MAX", "Readers"]

READERS = 4
RUNNING_MAX = 2
PENDING_MAX = 256
ANSWER_SECONDS = 30.0
_JOIN_SECONDS = 2.0  # for all threads together, when the service closes: a stopped query ends in milliseconds

T = TypeVar("T")


class _Question:
    """One query. `answer` is set by the thread that runs it. `is_abandoned`: the caller no longer waits for the
    answer."""

    __slots__ = ("answer", "ask", "is_abandoned", "key")

    def __init__(self, key: str, ask: Callable[[Reader], Any]) -> None:
        self.key = key
        self.ask = ask
        self.answer: Future[Any] = Future()
        self.is_abandoned = False


class Readers:
    """`open_reader` is called in each thread on first use, and again after an error. `ask` is used by one event loop;
    `close` may be called from any thread."""

    def __init__(self, open_reader: Callable[[], Reader], threads: int = READERS) -> None:
        self._open_reader = open_reader
        self._threads_max = threads
        self._lock = threading.Lock()
        # All below is guarded by `_lock`.
        self._waiting: OrderedDict[str, deque[_Question]] = OrderedDict()  # the key whose turn is next is first
        self._running: list[_Question] = []
        self._threads: list[threading.Thread] = []
        self._idle: list[threading.Condition] = []  # of the threads that wait; the one that was busy last is last
        self._closed = False

    async def ask(self, question: Callable[[Reader], T], key: str = "") -> T:
        """Runs `question` with a reader and returns its result. `key`: the key of the caller, for fairness. Raises
        StoreError, and any exception of `question`."""
        asked = self._put(_Question(key, question))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer: T = await asyncio.wrap_future(asked.answer)
                return answer
        except TimeoutError:
            raise StoreError(f"the index did not respond within {ANSWER_SECONDS:g} s") from None
        finally:
            self._abandon(asked)
            del asked  # a cancelled request's traceback would keep its page until the next collection of garbage

    def close(self) -> None:
        """Drops waiting queries, stops running ones, closes the readers."""
        with self._lock:
            self._closed = True
            waiting = [q for questions in self._waiting.values() for q in questions]
            self._waiting.clear()
            for question in self._running:
                question.is_abandoned = True
            while self._idle:
                self._idle.pop().notify()
            threads = list(self._threads)
        for question in waiting:
            question.answer.cancel()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _put(self, question: _Question) -> _Question:
        with self._lock:
            if self._closed:
                raise StoreError("the query service is closed", retriable=False)
            if self._pending() >= PENDING_MAX:
                raise StoreError(f"more than {PENDING_MAX} queries wait for the index")
            self._waiting.setdefault(question.key, deque()).append(question)
            if len(self._threads) < min(self._threads_max, self._pending()):
                # A daemon thread: a query that hangs in the kernel must not prevent the process from ending.
                thread = threading.Thread(target=self._work, name="asgi-audit-query", daemon=True)
                try:
                    thread.start()
                except RuntimeError as e:  # no thread available, or the interpreter is ending
                    self._forget(question)
                    raise StoreError("no thread could be started to read the index") from e
                self._threads.append(thread)
            if self._idle:
                self._idle.pop().notify()
        return question

    def _pending(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._running)

    def _abandon(self, question: _Question) -> None:
        with self._lock:
            question.is_abandoned = True
            self._forget(question)

    def _forget(self, question: _Question) -> None:
        waiting = self._waiting.get(question.key)
        if waiting is not None and question in waiting:
            waiting.remove(question)
            if not waiting:
                del self._waiting[question.key]

    # -- in the threads

    def _work(self) -> None:
        slot = _Slot(self._open_reader)
        woken = threading.Condition(self._lock)
        while (question := self._take(woken)) is not None:
            answer: Any = None
            error: BaseException | None = None
            if is_wanted := question.answer.set_running_or_notify_cancel():
                try:
                    answer = slot.answer(question)
                except BaseException as e:
                    error = e
            # First this: the caller's next query must find a free thread.
            with self._lock:
                self._running.remove(question)
            if error is not None:
                question.answer.set_exception(error)
            elif is_wanted:
                question.answer.set_result(answer)
            del question, answer, error  # up to a page of bytes
        slot.close()

    def _take(self, woken: threading.Condition) -> _Question | None:
        """The next query; None after `close`."""
        with self._lock:
            while True:
                if self._closed:
                    return None
                if (question := self._next()) is not None:
                    self._running.append(question)
                    return question
                self._idle.append(woken)
                woken.wait()

    def _next(self) -> _Question | None:
        free = self._threads_max - len(self._running)
        for key, questions in self._waiting.items():
            running = sum(q.key == key for q in self._running)
            if running == 0 or (running < RUNNING_MAX and free > 1):
                question = questions.popleft()
                if questions:
                    self._waiting.move_to_end(key)
                else:
                    del self._waiting[key]
                return question
        return None


class _Slot:
    """The reader of one thread."""

    def __init__(self, open_reader: Callable[[], Reader]) -> None:
        self._open_reader = open_reader
        self._reader: Reader | None = None
        self._question: _Question | None = None

    def answer(self, question: _Question) -> Any:
        self._question = question
        try:
            if self._reader is not None:
                try:
                    return question.ask(self._reader)
                except StoreError:
                    if question.is_abandoned:
                        raise
                    # A file was purged or rebuilt under an open connection: retry once with a new connection.
                    self.close()
            self._reader = self._open_reader()
            self._reader.stop_when(self._is_abandoned)
            try:
                return question.ask(self._reader)
            except StoreError:
                if not question.is_abandoned:
                    self.close()
                raise
        finally:
            self._question = None

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(StoreError):
                reader.close()

    def _is_abandoned(self) -> bool:
        return self._question is not None and self._question.is_abandoned
