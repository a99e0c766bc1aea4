"""The demo's output, within 80 columns: a plain table of requests and responses, and one record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .ask import Asked

__all__ = ["WIDTH", "shortened", "table"]

WIDTH = 80
_ASKED_WIDTH = 46
_TEXT_MAX = 36
_MIDDLE = "…"


def table(asked: Sequence[Asked]) -> str:
    """One line per call; runs of equal pages are folded."""
    rows = [("", "asked", "answered")]
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
    return text if len(text) <= width else f"{text[: width - 1]}{_MIDDLE}"


def shortened(record: dict[str, Any]) -> str:
    """Indented JSON with long texts cut."""
    return json.dumps(_cut(record), indent=2, ensure_ascii=False)


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _cut(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_cut(v) for v in value]
    if isinstance(value, str) and len(value) > _TEXT_MAX:
        return f"{value[:_TEXT_MAX]}{_MIDDLE} ({len(value)} characters)"
    return value
