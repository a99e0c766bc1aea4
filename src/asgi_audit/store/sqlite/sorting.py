"""Sorts the records of a batch by day, and separates those that cannot be stored."""

from __future__ import annotations

from typing import NamedTuple

from ...record.codec import Decoded
from ..base import Batch
from ..state import DeadLetter
from .codec import RECORD_BYTES_MAX
from .dead_letters import dead_of
from .retention import day_of
from .schema import DAY_MS

__all__ = ["AHEAD_MS_MAX", "Sorted", "sort"]

AHEAD_MS_MAX = DAY_MS  # a record further ahead of the indexer's clock becomes a dead letter


class Sorted(NamedTuple):
    """Records by day (`2026-11-22`), dead letters, and the number of records before the horizon."""

    by_day: dict[str, list[Decoded]]
    dead: list[DeadLetter]
    expired: int


def sort(batch: Batch, now: int, earliest: int) -> Sorted:
    """`now`: the indexer's clock; `earliest`: the horizon (both ms)."""
    by_number: dict[int, list[Decoded]] = {}
    dead: list[DeadLetter] = []
    expired = 0
    if batch.records:
        latest = now + AHEAD_MS_MAX
        for d in batch.records:
            at = d.timestamp
            if at > latest:
                dead.append(
                    dead_of(batch.source, d, f"timestamp is {(at - now) // 1000} s ahead of the indexer's clock")
                )
            elif at < earliest:
                expired += 1
            elif len(d.data) >= RECORD_BYTES_MAX:
                dead.append(dead_of(batch.source, d, f"{len(d.data)} bytes are more than the index accepts"))
            else:
                records = by_number.get(at // DAY_MS)
                if records is None:
                    by_number[at // DAY_MS] = [d]
                else:
                    records.append(d)
    return Sorted({day_of(number * DAY_MS): records for number, records in by_number.items()}, dead, expired)
