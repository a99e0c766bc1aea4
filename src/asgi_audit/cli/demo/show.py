"""How the demo shows what was asked and answered: a plain table, and one record on at most forty lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .ask import Asked

__all__ = ["shortened", "table"]

_TEXT_MAX = 100
_MIDDLE = "…"


def table(asked: Sequence[Asked]) -> str:
    """One line for each call; runs of equal pages are folded."""
    rows = [("asked", "status", "answered")]
    rows += [(call.request, str(call.status), call.answer) for call in asked]
    folded: list[tuple[str, str, str]] = []
    for row, count in ((row, len(list(run))) for row, run in groupby(rows)):
        folded.append(row if count == 1 else (*row[:2], f"{row[2]}, {count} times"))
    width = max(len(row[0]) for row in folded)
    lines = [f"{a:<{width}}  {b:<6}  {c}" for a, b, c in folded]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


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
