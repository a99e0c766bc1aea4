"""Counts the losses in a window. A lost exchange has no record and so no time. But the statement that reports it covers
a known interval: from the promise of the previous statement to its own creation."""

from __future__ import annotations

from collections.abc import Sequence

from ..record.statement import Statement

__all__ = ["losses_in", "lost_of"]


def lost_of(said: Statement) -> int:
    return said.lost_more + sum(r.last - r.first + 1 for r in said.lost)


def losses_in(statements: Sequence[Statement], start: int, end: int) -> int:
    """Losses of one process that may have begun from `start` (ms, inclusive) to `end` (exclusive). `statements`: in
    order; of those that state a loss also the one before it."""
    found = 0
    before: Statement | None = None
    for said in statements:
        if (lost := lost_of(said)) and said.at >= start:
            since = said.started if before is None or before.number != said.number - 1 else before.watermark
            if before is not None and before.open_oldest is not None:
                since = min(since, before.open_oldest)
            if since < end:
                found += lost
        before = said
    return found
