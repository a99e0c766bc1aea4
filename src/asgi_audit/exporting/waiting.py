"""Determines whether an index is complete up to the end of a window, and the reason when it is not."""

from __future__ import annotations

from datetime import UTC, datetime

from ..store.base import Reader
from ..store.state import MARGIN_MS

__all__ = ["complete_until", "incomplete_reason", "shown_time"]

_NAMED_MAX = 3


def complete_until(reader: Reader, start: int, end: int, accounts: frozenset[str] | None) -> int | None:
    """T (ms, exclusive). When there are no statements, because only other producers write records, the time of the last
    fence is used in place of T. None when neither exists."""
    until = reader.completeness(start, end, accounts).until
    if until is not None:
        return until
    read_until = reader.snapshot().read_until
    return int(read_until * 1000) - MARGIN_MS if read_until else None


def incomplete_reason(reader: Reader, end: int, until: int | None, accounts: frozenset[str] | None) -> str:
    """A text for people: why the index is not complete up to `end`. `until`: T. A key without access to every account
    gets only the ids of processes and partitions, to pass on to the operator: services belong to accounts, and reasons
    may contain paths."""
    is_operator = accounts is None
    read_until = int(reader.snapshot().read_until * 1000)
    names = [
        f"partition {h.partition} ({h.reason})" if is_operator else f"partition {h.partition}"
        for h in reader.holds()
        if not h.is_lost
    ]
    if not read_until:
        names.append("nothing is indexed yet")
    elif read_until - MARGIN_MS < end:
        names.append(f"the indexer has read everything up to {shown_time(read_until)}")
    waited = [p for p in reader.processes() if p.standing == "active" and p.low < end]
    names += [
        f"process {p.process}{f' of service {p.service}' if is_operator else ''} is settled until {shown_time(p.low)}"
        for p in waited
    ]
    more = len(names) - _NAMED_MAX
    stands = "nothing yet" if until is None else shown_time(until)
    why = "; ".join(names[:_NAMED_MAX]) or "it is not known why"
    return f"the index is complete until {stands}: {why}" + (f"; and {more} more" if more > 0 else "")


def shown_time(ms: int) -> str:
    """`ms` as RFC 3339 in UTC, with milliseconds."""
    at = datetime.fromtimestamp(min(max(ms, 0), 253_402_300_799_999) // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
