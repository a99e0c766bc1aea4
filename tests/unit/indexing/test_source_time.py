"""The time of the source when clocks are set, machines sleep and indexers are stopped. Times in ms."""

from __future__ import annotations

import pytest

from asgi_audit.indexing.source_time import BELIEVED_MS, SourceTime
from asgi_audit.transport.base import Fence

HOUR = 3_600_000


def passed(source: SourceTime, at: int, boot: int, boot_id: str = "b") -> int:
    source.passed(Fence(at / 1000, boot / 1000, boot_id))
    assert source.mark is not None
    assert (source.mark.taken_at, source.mark.boot) == (at, boot)
    return source.mark.at


def test_time_follows_the_clock_and_counts_sleep_and_downtime() -> None:
    source = SourceTime()
    assert passed(source, 10_000, 1_000) == 10_000
    assert passed(source, 10_900, 1_000) == 10_900, "less than a second is no step"
    # The machine slept for an hour: CLOCK_BOOTTIME continued.
    assert passed(source, 10_900 + HOUR, 1_000 + HOUR) == 10_900 + HOUR
    again = SourceTime(source.mark)
    assert passed(again, 10_900 + 2 * HOUR, 1_000 + 2 * HOUR) == 10_900 + 2 * HOUR


@pytest.mark.parametrize("is_restarted", [False, True])
def test_step_ahead_is_believed_when_it_has_stood_for_ten_minutes(is_restarted: bool) -> None:
    source = SourceTime()
    passed(source, 10_000, 1_000)
    if is_restarted:
        source = SourceTime(source.mark)
    assert passed(source, 10_100 + HOUR, 1_100) == 10_100, "time goes on as if nobody had set the clock"
    assert passed(source, 10_100 + HOUR + BELIEVED_MS - 1, 1_100 + BELIEVED_MS - 1) == 10_100 + BELIEVED_MS - 1
    assert passed(source, 10_100 + HOUR + BELIEVED_MS, 1_100 + BELIEVED_MS) == 10_100 + HOUR + BELIEVED_MS


def test_step_ahead_is_forgotten_when_it_is_taken_back() -> None:
    source = SourceTime()
    passed(source, 10_000, 1_000)
    passed(source, 10_000 + HOUR, 1_000)
    assert passed(source, 11_000, 2_000) == 11_000
    assert passed(source, 11_000 + HOUR, 2_000 + BELIEVED_MS - 1) == 10_999 + BELIEVED_MS, "it counts anew"


def test_step_back_is_believed_at_once() -> None:
    source = SourceTime()
    passed(source, 10_000 + HOUR, 1_000)
    assert passed(source, 10_000, 1_000) == 10_000


def test_first_time_after_another_start_of_the_machine_is_taken_as_it_is() -> None:
    source = SourceTime()
    passed(source, 10_000, 900_000, "one")
    again = SourceTime(source.mark)
    assert passed(again, 10_000 + HOUR, 1_000, "two") == 10_000 + HOUR
    unknown = SourceTime()
    passed(unknown, 10_000, 900_000, "")
    assert passed(SourceTime(unknown.mark), 10_000 + HOUR, 1_000, "") == 10_000 + HOUR


def test_silence_is_counted_in_small_steps() -> None:
    source = SourceTime()
    source.observe({"a": 1_000, "b": 5_000})
    source.observe({"a": 4_000})
    assert (source.elapsed("a"), source.elapsed("b"), source.elapsed("c")) == (("a", 3_000), ("b", 0), None)
    passed(source, 10_000, 1_000)
    assert source.elapsed("a") == ("", 0)
    passed(source, 12_000, 3_000)
    passed(source, 12_000 + HOUR, 3_000 + HOUR)
    assert source.elapsed("c") == ("", 12_000)
    assert SourceTime(source.mark).elapsed("a") == ("", 12_000), "a restart forgets nothing of it"
