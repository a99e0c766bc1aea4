"""The contract between capture, on the request path, and the recorder, off it."""

from __future__ import annotations

from typing import Any, Protocol

from .draft import Draft
from .sealed import Wake

__all__ = ["Begun", "RecorderBase"]

Begun = tuple[int, int, int]
"""The first fields of a draft: the ticket, and when it began by the monotonic and by the wall clock (ns)."""


class RecorderBase(Protocol):
    """Nothing here blocks, raises into the caller, or grows without bound.

    is_crowded: so many exchanges were open when the last one began that small bodies are to be reserved, too."""

    is_crowded: bool

    @property
    def is_open(self) -> bool:
        """`open` would not wait in this OS process: the journal is open, or the first attempt to open it failed."""

    def open(self, wait_seconds: float) -> None:
        """Start the thread (idempotent, again after fork) and wait at most so long for its journal to be open."""

    def begin(self) -> Begun:
        """Register an open exchange and take its time, under one lock."""

    def learn_account(self, draft: Draft, account_id: str) -> None:
        """The account of an exchange that is still open is known now; the last word counts. Statements name it, so that
        readers of other accounts are not told of this exchange when it stays open for long."""

    def reserve(self, draft: Draft, size: int) -> bool:
        """Ask for `size` bytes of the budget that all open and unwritten exchanges share; adds to `draft.held`."""

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
        """Account for bodies that are bytes (they are replaced where the budget has no room for them); then, under the
        same lock: duration, sequence, counter, enqueue or note of loss, deregister.

        True when it was enqueued, and then `wake` is called later; False when it is lost or excluded (`wake` is not
        called). The second seal of an exchange, or one begun before a fork, does nothing and answers False. An
        exchange whose details are both `none` is counted as excluded and gets no sequence."""

    def unwaited(self) -> None:
        """Count a `durable` exchange that was served before its record was durable; the next statement says so."""

    def flush(self, timeout_seconds: float, *, close: bool = False) -> bool:
        """Write and sync all that is sealed; with `close` also a provisional `closed` statement. Blocks; True in
        time."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter of `stats()`."""

    def stats(self) -> dict[str, int]:
        """Counters since the process began, with at least: begun, sealed, recorded, excluded, open, unwaited,
        annotate_late, internal_errors, and `lost_<reason>` for each reason seen."""
