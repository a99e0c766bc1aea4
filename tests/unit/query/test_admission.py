"""Concurrent work: bounds of a key and of all keys, turns between keys, and nothing reserved at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asgi_audit.errors import QueryError
from asgi_audit.query import admission
from asgi_audit.query.admission import BYTES_KEY_MAX, BYTES_MAX, BYTES_RESERVED, IN_FLIGHT_KEY_MAX, Admission, Lease

PAGE = 8 << 20


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(bounded())


async def waiting(lease: Lease, size: int = PAGE) -> asyncio.Task[None]:
    task = asyncio.create_task(lease.reserve(size))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_key_is_told_to_come_again_when_it_has_its_most_answers_in_flight() -> None:
    admitted = Admission()
    leases = [admitted.enter("a") for _ in range(IN_FLIGHT_KEY_MAX)]
    with pytest.raises(QueryError, match="limit") as caught:
        admitted.enter("a")
    assert caught.value.kind == "busy"
    with admitted.enter("b"):
        assert admitted.in_flight == IN_FLIGHT_KEY_MAX + 1
    leases.pop().close()
    admitted.enter("a").close()


def test_all_keys_together_have_a_bound_and_one_has_half_of_it() -> None:
    admitted = Admission(in_flight_max=10)
    for key in "ab":
        for _ in range(5):
            admitted.enter(key)
        with pytest.raises(QueryError, match="this key has 5"):
            admitted.enter(key)
    with pytest.raises(QueryError, match="this API") as caught:
        admitted.enter("c")
    assert caught.value.kind == "busy"


def test_key_holds_half_of_the_bytes_and_the_last_are_for_keys_that_hold_none() -> None:
    async def work() -> None:
        admitted = Admission()
        a = [admitted.enter("a") for _ in range(4)]
        tasks = [await waiting(lease) for lease in a]
        assert [t.done() for t in tasks] == [True, True, True, False]
        assert admitted.bytes == BYTES_KEY_MAX
        b = [admitted.enter("b") for _ in range(3)]
        tasks += [await waiting(lease) for lease in b]
        assert [t.done() for t in tasks[4:]] == [True, True, False]  # the third one would take reserved bytes
        c = admitted.enter("c")
        await c.reserve(BYTES_RESERVED)
        assert admitted.bytes == BYTES_MAX
        a[0].resize(1_000)  # a page that is smaller than its reservation
        await asyncio.sleep(0)
        for lease in (*a, *b, c):
            lease.close()
        await asyncio.gather(*tasks)
        for lease in (*a, *b, c):
            lease.close()  # a second close is allowed
        assert (admitted.bytes, admitted.in_flight) == (0, 0)

    run(work)


def test_keys_take_turns_when_they_wait_for_room() -> None:
    async def work() -> None:
        admitted = Admission()
        held = [admitted.enter(key) for key in "xxxyyz"]
        for lease in held:
            await lease.reserve(PAGE)
        order: list[str] = []

        async def page(key: str) -> None:
            with admitted.enter(key) as lease:
                await lease.reserve(PAGE)
                order.append(key)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(page(key)) for key in "aaaaaaab"]
        await asyncio.sleep(0)
        assert not order
        for lease in held[3:]:
            lease.close()
        await asyncio.gather(*tasks)
        assert order.index("b") <= 1

    run(work)


def test_page_is_given_up_when_no_room_comes_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WAIT_SECONDS", 0.01)

    async def work() -> None:
        admitted = Admission()
        held = [admitted.enter("a") for _ in range(3)]
        for lease in held:
            await lease.reserve(PAGE)
        with admitted.enter("a") as late:
            with pytest.raises(QueryError, match="all memory for pages") as caught:
                await late.reserve(PAGE)
            assert caught.value.kind == "busy"
        assert admitted.bytes == BYTES_KEY_MAX

    run(work)


def test_nothing_is_held_when_a_waiting_page_is_cancelled_at_any_point() -> None:
    async def work() -> None:
        admitted = Admission()
        for steps in range(6):
            with admitted.enter("a") as full:
                await full.reserve(BYTES_KEY_MAX)

                async def page() -> None:
                    with admitted.enter("a") as lease:
                        await lease.reserve(PAGE)
                        await asyncio.sleep(0)

                tasks = [asyncio.create_task(page()) for _ in range(3)]
                for step in range(6):
                    if step == 3:
                        full.close()
                    if step == steps:
                        tasks[0].cancel()
                    await asyncio.sleep(0)
                await asyncio.gather(*tasks, return_exceptions=True)
            assert (admitted.bytes, admitted.in_flight) == (0, 0)

    run(work)


def test_page_larger_than_all_there_is_goes_alone() -> None:
    async def work() -> None:
        admitted = Admission()
        with admitted.enter("a") as lease:
            await lease.reserve(1 << 30)
            lease.resize(1 << 30)
            other = await waiting(admitted.enter("b"))
            assert not other.done()
            lease.close()
            await other

    run(work)
