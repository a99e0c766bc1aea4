"""Refusals are limited by client address and by key id; failures of others never make a valid key fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.api import DAY, Api
from tests.support.clock import Clock

from asgi_audit.api.throttle import (
    ENTRIES_MAX,
    FAILURES_ALL_MAX,
    FAILURES_MAX,
    WINDOW_SECONDS,
    OwnWindows,
    Throttle,
)
from asgi_audit.wiring.shared_memory import SharedMemory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["of one process", "of several"])
def throttle(clock: Clock, request: pytest.FixtureRequest) -> Iterator[Throttle]:
    if request.param == "of one process":
        yield Throttle(monotonic=clock)
        return
    made = SharedMemory.make(3)
    yield Throttle(SharedMemory(made.fd, 3, 1, monotonic=clock).windows(0))
    made.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_failures_of_one_address_are_over_after_the_bound_whatever_keys_it_tries(
    throttle: Throttle, clock: Clock
) -> None:
    for n in range(FAILURES_MAX):
        assert not throttle.is_over("10.0.0.1", "new")
        assert throttle.failed("10.0.0.1", f"id{n}") == 0
    assert throttle.is_over("10.0.0.1", "new")
    assert throttle.failed("10.0.0.1", "new") == WINDOW_SECONDS
    assert not throttle.is_over("10.0.0.2", "new")
    clock.now += 12.5
    assert throttle.failed("10.0.0.1", "new") == 48


def test_failures_with_one_key_id_are_over_after_the_bound_wherever_they_come_from(throttle: Throttle) -> None:
    for n in range(FAILURES_MAX):
        assert throttle.failed(f"10.0.0.{n}", "leaked") == 0
    assert throttle.failed("10.0.1.1", "leaked") == WINDOW_SECONDS
    assert throttle.failed("10.0.1.2", "other") == 0


def test_a_window_ends(throttle: Throttle, clock: Clock) -> None:
    for _ in range(FAILURES_MAX + 5):
        throttle.failed("10.0.0.1", "")
    clock.now += WINDOW_SECONDS
    assert not throttle.is_over("10.0.0.1", "")
    assert throttle.failed("10.0.0.1", "") == 0


def test_failures_from_everywhere_are_not_refused_but_not_recorded_one_by_one(throttle: Throttle) -> None:
    for n in range(FAILURES_ALL_MAX):
        assert throttle.failed(f"a{n}", f"k{n}") == 0
    assert throttle.is_over("new", "new")
    assert throttle.failed("new", "new") == 0


def test_what_is_unknown_is_not_counted_as_one_client(throttle: Throttle) -> None:
    for _ in range(FAILURES_MAX + 1):
        assert throttle.failed("", "") == 0


def test_one_refusal_in_a_window_is_recorded_with_the_number_of_those_left_out(
    throttle: Throttle, clock: Clock
) -> None:
    assert throttle.to_record() == 0
    assert [throttle.to_record() for _ in range(7)] == [None] * 7
    clock.now += WINDOW_SECONDS
    assert throttle.to_record() == 7
    assert throttle.to_record() is None
    assert throttle.unrecorded == 8


def test_memory_is_bounded_and_who_fails_on_is_not_forgotten(clock: Clock) -> None:
    windows = OwnWindows(clock)
    throttle = Throttle(windows)
    for n in range(2 * ENTRIES_MAX):
        throttle.failed("10.0.0.1", f"{n}")
    assert len(windows._windows) == ENTRIES_MAX
    assert throttle.is_over("10.0.0.1", "")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/trail", "/usage/gw/i1"])
async def test_wrong_keys_are_answered_429_in_the_dialects_shape_and_a_right_one_never(api: Api, path: str) -> None:
    wrong = f"aa_{'0' * 12}_{'x' * 43}"
    async with api.client(wrong) as client, api.client(api.acme) as acme:
        for _ in range(FAILURES_MAX):
            assert (await client.post(path, json=DAY)).status_code == 401
        refused = await client.post(path, json=DAY)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= WINDOW_SECONDS
        assert refused.json()["type"] == "too_many_requests"
        assert "www-authenticate" not in refused.headers
        # From the same address, which may be that of a proxy.
        assert (await acme.post("/trail", json=DAY)).status_code == 200


@pytest.mark.anyio
async def test_wrong_secrets_for_an_id_do_not_lock_its_key_out(api: Api) -> None:
    async with api.client(f"aa_{api.acme_id}_{'x' * 43}") as client, api.client(api.acme) as acme:
        for _ in range(FAILURES_MAX + 1):
            answer = await client.post("/trail", json=DAY)
        assert answer.status_code == 429
        assert (await acme.post("/trail", json=DAY)).status_code == 200
