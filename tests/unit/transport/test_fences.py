"""Fences that have not passed: their order, their bound, and when they pass."""

from __future__ import annotations

from asgi_audit.transport.fences import FENCES_MAX, Fence, FenceQueue, boot_seconds


def fence(at: float) -> Fence:
    return Fence(at, at, "")


def test_newest_fence_behind_what_was_read_passes_and_takes_the_older_ones_along() -> None:
    queue = FenceQueue()
    for n in range(1, 6):
        queue.add(fence(n), {"a": 10 * n, "b": n})
    assert queue.passed({"a": 5, "b": 9}) is None
    assert queue.behind({"a": 5, "b": 9}) == ["a"]
    assert queue.passed({"a": 35, "b": 9}) == fence(3)
    assert len(queue) == 2
    assert queue.passed({"a": 35, "b": 9}) is None
    assert queue.passed({"b": 9}) == fence(5), "what is there no longer holds nothing"
    assert queue.behind({"a": 0}) == []


def test_some_fence_always_passes_when_the_reader_lags_for_ever() -> None:
    """Method: ten messages for each fence, nine are read. Thinning keeps the oldest fence, so it passes in the end."""
    queue = FenceQueue()
    passed: list[float] = []
    for n in range(1, 5000):
        queue.add(fence(n), {"a": 10 * n})
        assert len(queue) <= FENCES_MAX
        found = queue.passed({"a": 9 * n})
        if found is not None:
            passed.append(found.at)
    assert passed == sorted(passed)
    assert len(passed) > 50
    # The lag is a tenth by then; thinned fences are at most a few of their distances apart.
    assert passed[-1] > 4000


def test_nothing_passes_when_the_partitions_are_others() -> None:
    queue = FenceQueue()
    queue.add(fence(1), {"a": 1})
    queue.clear()
    assert queue.passed({"a": 9}) is None


def test_boot_seconds_go_on() -> None:
    before = boot_seconds()
    assert boot_seconds() >= before > 0
