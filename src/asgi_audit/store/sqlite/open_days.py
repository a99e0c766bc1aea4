"""The day files that the writer has open (the four written last), and the file of each day that main.db lists."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable
from pathlib import Path

from ...disk import Access
from . import retention
from .codec import Compressor
from .day import DayWriter
from .days import day_is_gone, holds
from .errors import MAPPED
from .low_disk import is_low
from .rollup import ROLLUP_RECORDS
from .schema import DAY_VERSION, day_name
from .tokens import Tokens

__all__ = ["OpenDays"]

_OPEN_MAX = 4
# Errors after which the rollup is written later. The batch is committed by then: an error would make the indexer write
# it again, and store its dead letters twice.
_RETRIABLE: tuple[type[Exception], ...] = (OSError, *(error for error, (retriable, _) in MAPPED.items() if retriable))
_log = logging.getLogger("asgi_audit.store")


class OpenDays:
    """Errors are apsw's, OSError and StoreError."""

    def __init__(self, directory: Path, access: Access) -> None:
        self.files: dict[str, int] = {}  # the days that main.db lists -> file number: see `day_name`
        self._directory = directory
        self._access = access
        self._compressor = Compressor()
        self._tokens = {version: Tokens(version) for version in (1, DAY_VERSION)}
        self._open: OrderedDict[str, DayWriter] = OrderedDict()

    def path(self, day: str) -> Path:
        """The file of a day that main.db lists, or the first one of a new day."""
        return self._directory / day_name(day, self.files.get(day, 0))

    def writer(self, day: str, file: int = 0) -> DayWriter:
        """The open writer of a day; creates the file of a new day. `file`: its file number, when main.db does not list
        the day yet. Raises StoreError when the file of a listed day is gone."""
        found = self._open.get(day)
        if found is not None:
            self._open.move_to_end(day)
            return found
        while len(self._open) >= _OPEN_MAX:
            oldest = next(iter(self._open))
            self._roll_up(oldest)
            if (is_open := self._open.pop(oldest, None)) is not None:
                try:
                    is_open.checkpoint()
                finally:
                    is_open.close()
        file = self.files.get(day, file)
        path = self._directory / day_name(day, file)
        made = not holds(path)
        if made and day in self.files:
            raise day_is_gone(self._directory, day, file, retriable=False)
        found = self._opened(day, path)
        if made:
            retention.sync(self._directory)
        return found

    def replace(self, day: str, path: Path) -> None:
        """`path` is the day's file from now on. Call `leave` for the day first."""
        self._opened(day, path)

    def leave(self, day: str) -> None:
        """Close the file of this day, if it is open."""
        if (is_open := self._open.pop(day, None)) is not None:
            is_open.close()

    def forget_before(self, day: str) -> None:
        """Forgets the days before this one: they are purged."""
        for earlier in [d for d in self._open if d < day]:
            self._open.pop(earlier).abandon()
        self.files = {d: file for d, file in self.files.items() if d >= day}

    def writers(self) -> Collection[DayWriter]:
        return self._open.values()

    def are_there(self, days: Iterable[str] | None = None) -> None:
        """Raises StoreError when the file of one of these days (None: of any) is open and was moved or replaced."""
        for day in self._open if days is None else days:
            if day in self._open and self._open[day].moved() is not None:
                raise day_is_gone(self._directory, day, self.files.get(day, 0), retriable=False)

    def roll_up(self, at_least: int = ROLLUP_RECORDS) -> None:
        """Write the rollup of each open day in which it lacks so many records."""
        for day in list(self._open):
            self._roll_up(day, at_least)

    def _roll_up(self, day: str, at_least: int = 1) -> None:
        """Does nothing when the disk is full or nearly so, or when the file cannot be written now: the rows are stored,
        and readers look at them."""
        if self._open[day].unwritten < at_least:
            return
        try:
            if not is_low(self._directory):
                self._open[day].roll_up()
        except _RETRIABLE as e:
            _log.debug("could not write the rollup of %s: %s", self._open[day].path, e)
            self._open.pop(day).abandon()

    def abandon(self) -> None:
        """Close all of them, in whatever state they are; uncommitted changes are rolled back."""
        days, self._open = list(self._open.values()), OrderedDict()
        for day in days:
            day.abandon()

    def _opened(self, day: str, path: Path) -> DayWriter:
        self._open[day] = found = DayWriter(path, self._compressor, self._tokens, self._access)
        return found
