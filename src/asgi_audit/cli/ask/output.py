"""The output of `ask`: a table that fits the terminal, JSON lines, CSV, the progress of an export.

Texts of records are escaped before they are passed to rich, which writes to the terminal directly. Colours follow rich:
on a terminal only, and not with NO_COLOR.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table as Grid
from rich.text import Text

from ...client import Export
from ..terminal import one_line, raw_stream

__all__ = ["ExportProgress", "Table", "print_json"]

_ROWS_AT_ONCE = 200  # column widths are computed for this many rows
_WIDE = 1_000  # width without a terminal
_COLOURS = {2: "green", 3: "cyan", 4: "yellow", 5: "red"}


def print_json(value: Any, *, indent: int | None = None, flush: bool = False) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=indent), flush=flush)


class Table:
    """Prints rows of records or log entries in groups, with column widths that fit each group."""

    def __init__(self) -> None:
        stream = raw_stream(sys.stdout)
        is_terminal = bool(getattr(stream, "isatty", lambda: False)())
        self._console = Console(file=stream, width=None if is_terminal else _WIDE, highlight=False)
        self._rows: list[list[Text]] = []
        self._is_begun = False

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(_cells(row))
        if len(self._rows) == _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        grid = Grid(box=None, pad_edge=False, show_header=not self._is_begun, header_style="bold", padding=(0, 2, 0, 0))
        grid.add_column("TIME (UTC)", no_wrap=True, min_width=14)
        grid.add_column("", justify="right", no_wrap=True, min_width=3)
        grid.add_column("TOOK", justify="right", no_wrap=True, min_width=5)
        grid.add_column("SERVICE", no_wrap=True, max_width=16, overflow="ellipsis")
        grid.add_column("WHO", no_wrap=True, max_width=20, overflow="ellipsis")
        grid.add_column("REQUEST", no_wrap=True, overflow="ellipsis", ratio=1)
        for cells in self._rows:
            grid.add_row(*cells)
        self._console.print(grid)
        self._rows.clear()
        self._is_begun = True

    def end(self) -> None:
        self.flush()


def _cells(row: Mapping[str, Any]) -> list[Text]:
    """The cells of a record, or of an entry of /logs."""
    details = row.get("details")
    if isinstance(details, Mapping):
        at, status, took = row["timestamp"], details.get("status_code"), details.get("duration_ms")
        who, service = details.get("user_id"), row.get("service")
        request = f"{details.get('method')} {details.get('path')}"
        time = str(at)[5:19].replace("T", " ")
    else:
        context, asked = row.get("context") or {}, row.get("request") or {}
        status = (row.get("response") or {}).get("statusCode")
        nanoseconds = context.get("durationNs")
        took = None if nanoseconds is None else nanoseconds / 1e6
        who = context.get("principal")
        service = row.get("service") or (row.get("metadata") or {}).get("service")
        request = f"{asked.get('method')} {asked.get('path')}"
        time = f"{datetime.datetime.fromtimestamp(row['timestamp'] / 1000, datetime.UTC):%m-%d %H:%M:%S}"
    colour = _COLOURS.get(status // 100, "") if isinstance(status, int) else ""
    shown = [time, "" if status is None else str(status), _took(took), service or "", who or "", request]
    cells = [Text(one_line(str(text))) for text in shown]
    cells[1].stylize(colour)
    return cells


def _took(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms"


class ExportProgress:
    """Progress of an export, on standard error: what it waits for, then the downloaded bytes."""

    def __init__(self, id: str) -> None:
        console = Console(file=raw_stream(sys.stderr), highlight=False)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task(f"export {id}", total=None)

    def state(self, export: Export) -> None:
        self._bars.update(self._task, description=one_line(f"{export.state} {export.reason}")[:60])

    def bytes(self, done: int, of: int) -> None:
        self._bars.update(self._task, description="downloading", completed=done, total=of or None)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
