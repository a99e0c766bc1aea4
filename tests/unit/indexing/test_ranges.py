"""Ranges, compared with a plain set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asgi_audit.indexing.ranges import Ranges

_pair = st.tuples(st.integers(1, 40), st.integers(0, 8)).map(lambda p: (p[0], p[0] + p[1] - 1))
_steps = st.lists(st.tuples(st.booleans(), _pair), max_size=30)


@given(_steps, _pair)
def test_ranges_equal_a_set_after_any_steps(steps: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]) -> None:
    ranges, plain = Ranges(), set[int]()
    for is_adding, (first, last) in steps:
        numbers = set(range(first, last + 1))
        if is_adding:
            ranges.add(first, last)
            plain |= numbers
        else:
            assert ranges.remove(first, last) == len(plain & numbers)
            plain -= numbers
    assert {n for a, b in ranges for n in range(a, b + 1)} == plain
    assert ranges.total() == len(plain)
    assert all(b + 1 < c for (_, b), (c, _) in zip(list(ranges), list(ranges)[1:], strict=False))
    assert all((n in ranges) == (n in plain) for n in range(50))
    gaps = {n for a, b in ranges.gaps(*asked) for n in range(a, b + 1)}
    assert gaps == set(range(asked[0], asked[1] + 1)) - plain
    assert list(Ranges(ranges)) == list(ranges)


def test_ranges_close_the_smallest_gap_when_they_are_too_many() -> None:
    ranges = Ranges([(1, 2), (5, 6), (8, 9), (20, 20)])
    ranges.close_smallest_gap()
    assert list(ranges) == [(1, 2), (5, 9), (20, 20)]
