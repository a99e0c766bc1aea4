"""The demo's output, within 80 columns: a table of requests and responses, one record, and what to try next."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .ask import TableRow

__all__ = ["WIDTH", "next_steps", "shortened", "table"]

WIDTH = 80
_ASKED_WIDTH = 46
_TEXT_MAX = 36
_MIDDLE = "…"


def table(asked: Sequence[TableRow]) -> str:
    """One line per call; runs of equal pages are folded."""
    rows = [("", "request", "response")]
    rows += [(str(call.status), call.request, call.answer) for call in asked]
    lines = []
    for (status, request, answer), run in groupby(rows):
        count = len(list(run))
        said = answer if count == 1 else f"{count} × {answer}"
        line = f"{status:3}  {_short(request, _ASKED_WIDTH):<{_ASKED_WIDTH}}  {said}"
        lines.append(_short(line, WIDTH))
    lines.insert(1, "-" * WIDTH)
    return "\n".join(lines)


def _short(text: str, width: int) -> str:
    """At most `width` characters, cut after a word; a word that fills the last third of them is cut itself."""
    if len(text) <= width:
        return text
    kept = text[: width - 1]
    if text[width - 1] != " ":
        kept = kept[:end] if (end := kept.rfind(" ")) >= width * 2 // 3 else kept
    return f"{kept.rstrip(' ,;:')}{_MIDDLE}"


def shortened(record: dict[str, Any]) -> str:
    """Indented JSON with long texts cut."""
    return json.dumps(_cut(record), indent=2, ensure_ascii=False)


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _cut(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_cut(v) for v in value]
    if isinstance(value, str) and len(value) > _TEXT_MAX:
        return f"{_short(value, _TEXT_MAX)} ({len(value)} characters)"
    return value


def next_steps(kept: Path | None) -> str:
    """Three things to try. `kept`: the directory in which this demo's records stay; None: they are removed."""
    command = _command()
    home = shlex.quote("shop" if kept is None else str(kept))
    keep_records = [f"{command} demo --home {home}"] if kept is None else []
    return "\n".join(
        (
            "Try next:",
            "",
            "  1. Keep application and API running, and query them until Ctrl-C:",
            f"     {command} demo --keep",
            "  2. Keep the records, and look for refused requests:"
            if kept is None
            else "  2. Look for refused requests:",
            *(f"     {line}" for line in keep_records),
            f"     ASGI_AUDIT_HOME={home} {command} ask --status 4xx",
            "  3. Audit your own FastAPI or Starlette application, and watch its requests:",
            "     app = asgi_audit.install(app)",
            f"     {command} tail -f",
            "",
        )
    )


def _command() -> str:
    """How this shell calls `asgi-audit`: by its name, or by its path when it is not on PATH (as in `make demo`)."""
    if shutil.which("asgi-audit") is not None:
        return "asgi-audit"
    called = Path(sys.argv[0])
    if called.name != "asgi-audit":
        return "python -m asgi_audit"
    return shlex.quote(os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called))
