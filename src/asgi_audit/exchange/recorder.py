"""The contract between capture, which runs on the request path, and the recorder, which runs off it."""

from __future__ import annotations

from typing import Any, Protocol

from .draft import Draft
from .sealed import Wake

__all__ = ["Begun", "RecorderBase"]

Begun = tuple[int, int, int]
"""The first fields of a draft: the ticket, and when it began by the monotonic and by the wall clock (ns)."""


class RecorderBase(Protocol):
    """Only `open` and `flush` block. Nothing here raises into the caller, or grows without bound.

    is_crowded: many exchanges were open when the last one began, so small bodies must be reserved, too."""

    is_crowded: bool

    @property
    def is_open(self) -> bool:
        """Whether `open` would return at once: the journal is open, or the first attempt to open it failed."""

    def open(self, wait_seconds: float) -> None:
        """Start the thread, if it does not run, and wait at most `wait_seconds` until its journal is open."""

    def begin(self) -> Begun:
        """Register an open exchange and take its time, under one lock."""

    def learn_account(self, draft: Draft, account_id: str) -> None:
        """Set the account of an exchange that is still open; the last call counts. Statements name it, so that readers
        of other accounts do not count this exchange when it stays open for long."""

    def reserve(self, draft: Draft, size: int) -> bool:
        """Reserve `size` bytes of the budget that all open and unwritten exchanges share, and add them to `draft.held`.
        Returns False when they are not available."""

    def seal(
        self,
        draft: Draft,
        outcome: str,
        route: Any,
        endpoint: Any,
        principal: str | None,
        notes: dict[str, Any] | None,
        wake: Wake | None = None,
    ) -> bool:
        """Seal the exchange. Under one lock: take it off the open ones, give it its sequence, count it, and put it into
        the queue or note its loss. Small bodies are counted in the budget, or dropped when it has no room.

        Returns True when it was put into the queue; `wake` will be called. Returns False, and never calls `wake`, when
        it was lost or excluded, was sealed before, or began before a fork. An exchange whose details are both `none` is
        counted as excluded and gets no sequence."""

    def unwaited(self) -> None:
        """Count a `durable` exchange that was served before its record was durable; the next statement says so."""

    def flush(self, timeout_seconds: float, *, close: bool = False) -> bool:
        """Write and sync all that is sealed; with `close` also state `closed`, provisionally. Blocks. Returns whether
        it was done in time."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter of `stats()`."""

    def stats(self) -> dict[str, int]:
        """Counters since the process began, with at least: begun, sealed, recorded, excluded, open, unwaited,
        annotate_late, internal_errors, and `lost_<reason>` for each reason seen."""
