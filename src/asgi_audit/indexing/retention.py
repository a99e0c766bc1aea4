"""Decides when days are removed: when the indexer starts, once an hour after that, and when a command requests it.

Place: the indexer's loop calls `tend` between batches, and while it waits for a disk to work again, because a purge may
be what ends a full disk.

Invariants: the horizon only moves forward, and only whole days are removed. A clock that is suddenly more than a day
ahead of the time that was last believed is not believed for an hour, because a purge by a wrong clock cannot be undone.
The store keeps the time that was last believed; only a time that passes this check is stored, so a restart within the
hour begins the hour again. It is stored after the purge, because on a full disk only the purge makes room for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..errors import StoreError
from ..store.base import Writer

__all__ = ["Retention"]

_log = logging.getLogger("asgi_audit.indexing")

DAY_SECONDS = 86_400
EVERY_SECONDS = 3600.0
_LOOK_SECONDS = 1.0  # between two looks for requests: a listing of the directory, 0.3 ms for 1,000 files
_AGAIN_SECONDS = 10.0  # after a failure
_AHEAD_SECONDS = DAY_SECONDS


class Retention:
    """`days`: how many days before today are kept; 0 keeps all, and only requests remove days. `on_purged(horizon)` is
    called after a purge, with the new horizon (ms). Used in the indexer's thread."""

    def __init__(
        self,
        writer: Writer,
        *,
        days: int = 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_purged: Callable[[int], None] = lambda horizon: None,
    ) -> None:
        self._writer = writer
        self._on_purged = on_purged
        self._days = days
        self._clock = clock
        self._monotonic = monotonic
        self._next_look = self._next_purge = monotonic()
        self._is_failing = False
        # (what the clock showed last, when by the monotonic clock). While a clock is not believed, what it showed
        # counts, too: an hour later it must not have jumped again.
        last = writer.last_believed()
        self._seen = (clock() if last is None else last, monotonic())

    def tend(self) -> None:
        """Carry out purges that are due; cheap when none is. Raises StoreErrors that are not retriable. A retriable one
        is logged once and the work is tried again."""
        now = self._monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        try:
            asked = self._writer.purge_asked()
            if asked is not None:
                self._purge(asked, "as asked")
            acknowledged = self._writer.acknowledge_asked()
            if acknowledged:
                _log.info("acknowledged, as requested: %d silent processes will not come back", acknowledged)
            if replayed := self._writer.replay_asked():
                _log.info("%d dead letters were indexed, as requested", replayed)
            if renewed := self._writer.take_reindexed():
                _log.info("%d days were replaced by their reindexed copies, as requested", renewed)
            if now >= self._next_purge:
                wall = self._clock()
                if self._believed(wall, now):
                    if self._days:
                        today = int(wall) - int(wall) % DAY_SECONDS
                        self._purge((today - self._days * DAY_SECONDS) * 1000, f"older than {self._days} days")
                    self._writer.note_believed(wall)
                self._next_purge = now + EVERY_SECONDS
        except StoreError as e:
            if not e.retriable:
                raise
            self._next_look = now + _AGAIN_SECONDS
            if not self._is_failing:
                _log.warning("purging or maintaining the index failed; trying again until it works: %s", e)
            self._is_failing = True
        else:
            self._is_failing = False

    def _purge(self, before: int, why: str) -> None:
        purged = self._writer.purge(before)
        self._on_purged(purged.horizon)
        if purged.days:
            _log.info("purged %d days, %s bytes: %s", purged.days, f"{purged.bytes:,}", why)

    def _believed(self, wall: float, now: float) -> bool:
        then, at = self._seen
        self._seen = (wall, now)
        ahead = wall - (then + now - at)
        if ahead <= _AHEAD_SECONDS:
            return True
        if self._days:
            _log.warning(
                "the clock is %.1f days ahead of its last accepted time; if it stays so, days are purged in an hour",
                ahead / DAY_SECONDS,
            )
        return False
