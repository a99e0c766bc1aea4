"""`ask feed`: every record once, in the order in which it was indexed, for a SIEM that reads from a shell.

Records go to standard output, one JSON object a line. With `--cursor FILE` the cursor is kept in a file: the next run
continues there. The file is written after the records are: flushed, and on disk where standard output is a file. So a
run that is killed at any point repeats records of its last page (at most `questions.PAGE`), and skips none.

Only one run at a time may use a cursor file: it holds a lock on FILE.lock, which the system frees when the run ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...client.errors import ApiError, NotReachable
from ...disk import PRIVATE, sync
from ...errors import AuditError, ConfigError
from ..filters import refuse_others, window_of
from ..terminal import one_line, raise_if_unread, raw_stream

if TYPE_CHECKING:
    from ...client import AsyncClient
    from ...client.questions import FeedLines

__all__ = ["CursorFile", "feed", "start_of"]

_CURSOR_MAX = 4_096
_LOOK_SECONDS = 1.0  # how soon a reader that is gone is noticed
_AGAIN_SECONDS = (1.0, 30.0)  # the first and the longest pause while the API cannot be reached
_AWAY = (429, 502, 503, 504)


class CursorFile:
    """A file that holds one cursor: whole, or as it was before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Raises AuditError while another run holds it."""
        lock = Path(f"{self.path}.lock")
        try:
            fd = PRIVATE.open(lock, os.O_RDWR | os.O_CREAT)
        except OSError as e:
            raise ConfigError(f"--cursor: {lock} cannot be made: {e.strerror}") from e
        try:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise AuditError(
                    f"another run uses the cursor in {self.path}", hint="Use a separate cursor file for each run."
                ) from None
            yield
        finally:
            os.close(fd)

    def read(self) -> str | None:
        """None when there is none yet. Raises ConfigError for a file of something else."""
        try:
            with open(self.path, "rb") as file:
                text = file.read(_CURSOR_MAX + 2).decode("ascii").strip()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise ConfigError(f"--cursor: {self.path} cannot be read: {e.strerror}") from e
        except UnicodeDecodeError:
            text = ""
        if not 0 < len(text) <= _CURSOR_MAX or len(text.split()) != 1:
            raise ConfigError(
                f"--cursor: {self.path} contains no cursor", hint="Name another file, or remove this one."
            )
        return text

    def write(self, cursor: str) -> None:
        """Durable when it returns. Raises OSError."""
        beside = Path(f"{self.path}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        fd = PRIVATE.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            data = f"{cursor}\n".encode()
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(beside, self.path)
        sync(self.path.parent)


async def feed(client: AsyncClient, arguments: argparse.Namespace, filters: dict[str, Any]) -> int:
    """Runs the command. Raises AuditError when the feed cannot continue without missing records."""
    refuse_others(filters, ("since", "start"), "feed")
    start = start_of(filters)
    if arguments.cursor is None:
        await _Feeding(client, arguments, None).run(arguments.after, start)
        return 0
    file = CursorFile(Path(arguments.cursor))
    with file.locked():
        known = file.read()
        # `--after` and `--start` say where the first run begins: later runs of the same command line continue.
        await _Feeding(client, arguments, file).run(known or arguments.after, None if known else start)
    return 0


def start_of(filters: dict[str, Any]) -> str | None:
    """`--start`, or the instant of `--since`, as the API takes it."""
    start, _ = window_of(filters, time.time())
    if not start:
        return None
    whole, ms = divmod(start, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{ms:03d}Z"


class _Feeding:
    def __init__(self, client: AsyncClient, arguments: argparse.Namespace, file: CursorFile | None) -> None:
        self._client = client
        self._file = file
        self._follow: bool = arguments.follow
        self._left: int | None = arguments.lines or None

    async def run(self, after: str | None, start: str | None) -> None:
        pause = _AGAIN_SECONDS[0]
        while True:
            try:
                async for page in self._pages(after, start):
                    self._store(page)
                    after, start, pause = page.cursor, None, _AGAIN_SECONDS[0]
                return
            except ApiError as e:
                if e.status == 410:
                    raise self._gone(e) from e
                if e.status == 400 and self._file is not None and after is not None:
                    raise ConfigError(
                        f"--cursor: the cursor in {self._file.path} is not of this API, or was changed",
                        hint="Name the file that belongs to this API, or remove this one to begin again.",
                    ) from e
                if not self._follow or e.status not in _AWAY:
                    raise
                problem: AuditError = e
            except NotReachable as e:
                if not self._follow:
                    raise
                problem = e
            print(f"asgi-audit: {one_line(str(problem))}; trying again in {pause:g} s", file=sys.stderr, flush=True)
            await asyncio.sleep(pause)
            raise_if_unread()
            pause = min(2 * pause, _AGAIN_SECONDS[1])

    async def _pages(self, after: str | None, start: str | None) -> AsyncIterator[FeedLines]:
        pages = self._client.feed_lines(after, start=start, follow=self._follow, most=self._left)
        while True:
            coming = asyncio.ensure_future(anext(pages, None))
            try:
                while not (await asyncio.wait([coming], timeout=_LOOK_SECONDS))[0]:
                    raise_if_unread()
            finally:
                coming.cancel()
            page = coming.result()
            if page is None:
                return
            yield page

    def _store(self, page: FeedLines) -> None:
        for line in page.lines:
            print(line)
        if self._left is not None:
            self._left -= len(page.lines)
        sys.stdout.flush()
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # a pipe or a terminal: nothing to sync
                os.fsync(raw_stream(sys.stdout).fileno())
            try:
                self._file.write(page.cursor)
            except OSError as e:
                raise AuditError(
                    f"the cursor cannot be stored in {self._file.path}: {e.strerror}",
                    hint="The next run repeats the records of the last page.",
                ) from e

    def _gone(self, error: ApiError) -> AuditError:
        where = f"the cursor in {self._file.path}" if self._file is not None else "this cursor"
        again = f"remove {self._file.path}" if self._file is not None else "omit --after"
        return AuditError(
            f"the feed cannot continue from {where} without missing records: {error}",
            hint=f"To begin again, {again}: all existing records are then sent again; with --start TIME only "
            "later ones.",
        )
