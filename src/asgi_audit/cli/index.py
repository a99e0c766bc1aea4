"""Index records from the journal or from Kafka, until SIGTERM or Ctrl-C (the sidecar).

  asgi-audit index                                                        from and to the home
  asgi-audit index --from journal:////var/lib/app/journal --to sqlite:////var/lib/audit
  asgi-audit index --from kafka://broker:9092/audit-records --to sqlite:////var/lib/audit

One process at a time writes an index; a second one waits as standby and takes over when the first one ends. It may be
killed at any time: no record is lost or indexed twice. With --metrics-port it serves /metrics, /health/live and
/health/ready, without a key, because they show numbers only. A standby is ready.
"""

from __future__ import annotations

import argparse
import errno
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..errors import StoreError
from ..settings import Settings
from ..store.base import Writer
from ..transport.base import Source
from ..wiring.operations import build_indexer, forget_index, measures, open_source, open_store_writer
from ..wiring.shared_memory import Text
from .flags import KAFKA, add_new_index, add_settings, settings_of
from .processes import stop_by_signals
from .sidecar import Sidecar, serving
from .terminal import rewrite_line

__all__ = ["ProgressLine", "add_arguments", "run"]

_log = logging.getLogger("asgi_audit.index")
# Safe: the source delivers uncommitted records again.
_LATE = "the batch was not finished within %g s; it will be indexed again at the next start"
_STANDBY_SECONDS = 1.0
_SHOW_SECONDS = 1.0
_PATH_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_new_index(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--metrics-to", type=int, help=argparse.SUPPRESS)  # a descriptor that `serve` reads
    add_settings(
        parser,
        "home",
        "share_with_group",
        "transport",
        "store",
        *KAFKA,
        "kafka_group_id",
        "retention_days",
        "metrics_host",
        "metrics_port",
        "log_format",
        aliases={"transport": ("--from",), "store": ("--to",)},
    )


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    stop = stop_by_signals(_log, _LATE, until_stdin_closes=arguments.until_stdin_closes)
    sidecar = Sidecar(lambda: measures(settings))
    if arguments.metrics_to is not None:
        threading.Thread(
            target=_show_to, args=(Text(arguments.metrics_to), sidecar), name="asgi-audit-shown", daemon=True
        ).start()
    with serving(sidecar, settings.metrics_host, settings.metrics_port):
        return _index(settings, sidecar, stop, is_quiet=arguments.quiet, new_index=arguments.new_index)


def _show_to(text: Text, sidecar: Sidecar) -> None:
    while True:
        try:
            text.write(sidecar.own_text())
        except Exception as e:  # an error in the metrics must never stop indexing
            _log.warning("the metrics could not be computed: %s", type(e).__name__)
        time.sleep(_SHOW_SECONDS)


def _index(
    settings: Settings, sidecar: Sidecar, stop: threading.Event, *, is_quiet: bool, new_index: bool = False
) -> int:
    writer = _lease(settings, stop, new_index=new_index)
    if writer is None:
        return 0
    source: Source | None = None
    try:
        source = open_source(settings.absolute(), index=writer.id)
        indexer = build_indexer(settings, writer, stop=stop, on_progress=sidecar.tell, source=source)
        sidecar.active(lambda: indexer.progress, source.measures)
        if not is_quiet:
            whole = settings.absolute()
            urls = {"from": whole.transport_url, "to": whole.store_url}
            _log.info("indexing from %s to %s", *urls.values(), extra={"fields": urls})
            ProgressLine(lambda: indexer.progress, stop).start()
        indexer.run()
    finally:
        writer.close()  # first, so that a standby need not wait for the broker
        if source is not None:
            source.close()
    return 0


def _lease(settings: Settings, stop: threading.Event, *, new_index: bool) -> Writer | None:
    """The store's writer; waits as standby while another process is the writer. None when `stop` was set meanwhile."""
    said = ""
    while not stop.is_set():
        try:
            writer = open_store_writer(settings, wait_seconds=_STANDBY_SECONDS, stop=stop, new_index=new_index)
            if new_index:
                forget_index(settings, meant=writer.id)
            return writer
        except StoreError as e:
            if not e.retriable:
                raise
            if _cannot_be_made(e):
                hint = "Use a directory that this user can create and write, with --to or --home."
                raise StoreError(str(e), retriable=False, hint=hint) from e
            if str(e) != said:
                said = str(e)
                # Without a cause, another process holds the lease; otherwise it is an error of the disk or of SQLite.
                _log.warning("%s; %s", said, "waiting to take over" if e.__cause__ is None else "trying again")
            stop.wait(_STANDBY_SECONDS)
    return None


def _cannot_be_made(error: StoreError) -> bool:
    """The index cannot be made or opened at this path, and waiting does not change that."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _PATH_ERRORS


class Counts(Protocol):
    """The indexer's counts that the progress line needs."""

    @property
    def indexed(self) -> int: ...
    @property
    def dead(self) -> int: ...
    @property
    def lag(self) -> float | None: ...


class ProgressLine:
    """On a terminal, a line that is overwritten; otherwise a log line every ten seconds if something was indexed."""

    def __init__(
        self,
        counts: Callable[[], Counts],
        stop: threading.Event,
        *,
        clock: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
    ) -> None:
        self._counts = counts
        self._stop = stop
        self._clock = clock
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._every = 0.5 if self._terminal else 10.0
        self._before = (clock(), 0)

    def start(self) -> None:
        threading.Thread(target=self._run, name="asgi-audit-progress", daemon=True).start()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            line = self.line()
            if self._terminal:
                rewrite_line(f"{line:<78}")
            elif line:
                now = self._counts()
                _log.info("%s", line, extra={"fields": {"indexed": now.indexed, "dead": now.dead, "lag": now.lag}})
        if self._terminal:
            print(file=sys.stderr)

    def line(self) -> str:
        """The line; '' when nothing was indexed since the last one and the output is not a terminal."""
        now, counts = self._clock(), self._counts()
        then, before = self._before
        if counts.indexed == before and not self._terminal:
            return ""
        self._before = (now, counts.indexed)
        rate = (counts.indexed - before) / max(now - then, 1e-6)
        lag = "behind since the start" if counts.lag is None else f"lag {counts.lag:.1f} s"
        dead = f", {counts.dead:,} dead letters" if counts.dead else ""
        return f"{counts.indexed:,} records indexed, {rate:,.0f} a second, {lag}{dead}"
