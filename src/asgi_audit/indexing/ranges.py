"""A set of whole numbers as sorted, disjoint ranges, both ends inclusive: sequences that are settled, or missing.

Its size is the number of ranges, not of numbers; adding the next number costs no search.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["Ranges"]


class Ranges:
    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many ranges."""
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self._firsts, number)
        return i > 0 and self._lasts[i - 1] >= number

    def total(self) -> int:
        """How many numbers."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def add(self, first: int, last: int) -> None:
        firsts, lasts = self._firsts, self._lasts
        if lasts and first == lasts[-1] + 1 <= last:  # the usual one
            lasts[-1] = last
            return
        if first > last:
            return
        low = bisect_right(firsts, first)
        if low and lasts[low - 1] >= first - 1:
            low -= 1
        high = bisect_right(firsts, last + 1)
        if low < high:
            first, last = min(first, firsts[low]), max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def remove(self, first: int, last: int) -> int:
        """Returns how many of them were in it."""
        firsts, lasts = self._firsts, self._lasts
        if not firsts or first > last or first > lasts[-1]:
            return 0
        low = bisect_right(firsts, first)
        if low and lasts[low - 1] >= first:
            low -= 1
        high = bisect_right(firsts, last)
        if low >= high:
            return 0
        kept: list[tuple[int, int]] = []
        removed = 0
        for a, b in zip(firsts[low:high], lasts[low:high], strict=True):
            removed += min(b, last) - max(a, first) + 1
            if a < first:
                kept.append((a, first - 1))
            if b > last:
                kept.append((last + 1, b))
        firsts[low:high] = [a for a, _ in kept]
        lasts[low:high] = [b for _, b in kept]
        return removed

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of first..last that are not in it."""
        found: list[tuple[int, int]] = []
        at = first
        for i in range(max(0, bisect_right(self._firsts, first) - 1), len(self._firsts)):
            a, b = self._firsts[i], self._lasts[i]
            if a > last:
                break
            if a > at:
                found.append((at, a - 1))
            at = max(at, b + 1)
        if at <= last:
            found.append((at, last))
        return found

    def close_smallest_gap(self) -> None:
        """Join the two neighbouring ranges with the smallest gap between them, so that there is one range less."""
        firsts, lasts = self._firsts, self._lasts
        i = min(range(1, len(firsts)), key=lambda n: firsts[n] - lasts[n - 1])
        del firsts[i], lasts[i - 1]
