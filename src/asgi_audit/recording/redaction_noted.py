"""What every masking notes: the path of what was masked, and the value, which is searched for in the whole record."""

from __future__ import annotations

import re
from itertools import islice
from urllib.parse import unquote_to_bytes

from .names import Names, shapes
from .redaction_short import PATHS_MAX
from .reflection import Redacted, hidden, hidden_json, hidden_text

__all__ = ["hide", "note"]

_SHAPES_MAX = 20
_QUOTED_MAX = 64
_QUOTED = re.compile(rb"[:=>][ \t]*+\\{0,3}\"((?:[^\"\\\n]|\\[^\"\n]){6,200})")
_NAME_MAX = 60
_VALUES_MAX = 256  # more are not searched for


def note(redacted: list[str], path: str) -> None:
    if len(redacted) < PATHS_MAX and path not in redacted:
        redacted.append(path[:200])


def hide(redacted: list[str] | None, text: bytes, names: Names) -> None:
    """A text was masked: the words after sensitive names in it, and values that are secrets by their form."""
    if type(redacted) is not Redacted or len(redacted.values) >= _VALUES_MAX:
        return
    hidden_text(redacted, text, names)
    for start, end in islice(shapes(text), _SHAPES_MAX):
        value = text[start:end]
        if value[:1] == b":":  # user information
            hidden(redacted, unquote_to_bytes(value[3:-1].partition(b":")[2]))
        else:
            hidden(redacted, value.rpartition(b" ")[2] if value.count(b" ") == 1 else value)
    for m in islice(_QUOTED.finditer(text), _QUOTED_MAX):
        name = text[max(0, m.start() - _NAME_MAX) : m.start() + 1]
        if names.hit(name) and names.names_value(name):
            hidden(redacted, m[1])
            if 92 in m[1]:
                hidden_json(redacted, b'"' + m[1] + b'"')
