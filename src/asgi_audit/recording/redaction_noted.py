"""What every masking notes: the path of what was masked, and the value, which is searched for in the whole record."""

from __future__ import annotations

from itertools import islice

from .names import Names, shapes
from .redaction_short import PATHS_MAX
from .reflection import Redacted, hidden, hidden_text

__all__ = ["hide", "note"]

_SHAPES_MAX = 20


def note(redacted: list[str], path: str) -> None:
    if len(redacted) < PATHS_MAX and path not in redacted:
        redacted.append(path[:200])


def hide(redacted: list[str] | None, text: bytes, names: Names) -> None:
    """A text was masked: the words after sensitive names in it, and values that are secrets by their form."""
    if type(redacted) is not Redacted:
        return
    hidden_text(redacted, text, names)
    for start, end in islice(shapes(text), _SHAPES_MAX):
        value = text[start:end]
        if value[:1] != b":":  # user information, of which hidden_text took the password
            hidden(redacted, value.rpartition(b" ")[2] if value.count(b" ") == 1 else value)
