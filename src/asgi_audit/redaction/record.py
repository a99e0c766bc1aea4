"""The state that the grammars share while one record is built: its budget, the masked values, and the two questions.

Invariants: all work is charged to the record's budget; when it is spent, `TooCostly` is raised and the examined data is
omitted.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from .alarms import Alarm
from .budget import STEPS_MAX, Budget, TooCostly
from .forms import made
from .layers import Edit, Escapes, Layer, placed
from .names import COUNT, MADE, MANY, QUOTED, TEXT, YES, Names, is_label
from .path_rules import PathRules
from .reflection import hidden
from .scan import Scan
from .tables import REDACTED, words

__all__ = ["CANDIDATE", "DEPTH_MAX", "MASK", "Record", "TooCostly", "shown"]

CANDIDATE = 3
DEPTH_MAX = 6
PATHS_MAX = 64
PATH_MAX = 200
_SHOWN_MAX = 40
MASK = REDACTED.encode()
_BOOLEANS = frozenset((b"true", b"false", b"null", b"none", b"yes", b"no", b"nil"))
_COMMON = frozenset(word.encode() for word in words("common"))
# What is kept of data under a sensitive name: where a secret was, or will be put by a template (people choose passwords
# such as `$Summer2024` and `{Hunter2xy}`); how a framework checks a field (`required|min:8|confirmed`); the version of
# a package whose name is sensitive (`"jsonwebtoken": "^9.0.2"`).
_HOLDER = re.compile(
    rb"\*+|\.{3,}|[xX]{4,}|\[[A-Z_ ]{3,20}\]|\[(?:redacted|filtered|masked|hidden|removed)\]|\$\{\{[^{}]{1,60}\}\}"
    rb"|\{\{[^{}]{1,60}\}\}|\$[A-Z_]{2,40}|\$\{[A-Z_]{2,40}\}"
    rb"|(?:\xe2\x80\xa2|\xe2\x97\x8f){3,}"
    rb"|[<(](?i:redacted|filtered|masked|hidden|removed|sensitive(?: value)?|known after apply)[>)]?"
    rb"|(?i:your[_-](?:[a-z]{2,12}[_-]){0,3}(?:key|token|secret|password)(?:[_-]here)?)"
    rb"|(?:required|nullable|sometimes|present|string|confirmed|filled)(?:\|[a-z_]{1,30}(?::[A-Za-z0-9_,.]{1,40})?){1,12}"
    rb"|(?:~>|>=|==)[ ]?[0-9]{1,3}(?:\.[0-9]{1,4}){1,3}"
    rb"|[\^~]v?[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,5}(?:-[a-z]{1,8}\.?[0-9]{0,4})?|[0-9]\.[0-9]{1,2}\.[0-9]{1,2}"
)
# In source code and prose also these, when they have no digit and one case of letters.
_IN_PROSE = re.compile(
    rb"<[\w -]{1,40}>|\$\{[^{}]{1,60}\}|\$[A-Za-z_]\w{0,39}|%[A-Za-z_]\w{0,39}%"
    rb"|\[[A-Za-z ]{1,20}\]|\$\([\w ]{1,40}\)|(?:file|env):[\w./-]{1,60}|string"
    rb"|\{[A-Za-z_][\w.]{0,40}\}|%s|:[a-z_]{1,40}|\?"
    rb"|/(?:home|root|run|usr|var|tmp|opt|srv|etc|app|workspace|builds|mnt)(?:/[a-z._-]{1,40}){0,8}"
)
_ARGUMENT = re.compile(rb"\$[0-9]{1,2}")
# A value that an error quotes: it has a digit, a mark or a capital within.
_ECHOED = re.compile(rb"[\"'`]([^\s\"'`]{4,200}+)[\"'`]")
_IN_VALUE = re.compile(rb"[0-9!$%&=@#/\\+]|[a-z][A-Z]")
_SCHEMES = frozenset((b"bearer", b"basic", b"token", b"digest"))
_NUMBER = re.compile(rb"-?[0-9]{1,9}(?:\.[0-9]+)?")


def shown(name: bytes) -> str:
    """A name for a path of `redacted`: cut, and without text that could be a value."""
    text = name.decode("utf-8", "replace")
    if "=" in text or ":" in text:
        return REDACTED
    if len(text) > _SHOWN_MAX:
        text = text[:_SHOWN_MAX] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def is_holder(value: bytes) -> bool:
    """Whether data under a sensitive name is no secret: a mask, a template, a word such as `required`."""
    if len(value) >= 80:
        return False
    value = _without_scheme(value)
    return value.lower() in _COMMON or _HOLDER.fullmatch(value) is not None


def is_holder_in_prose(value: bytes) -> bool:
    """The same of source code and prose, where `<your password>`, `:password` and `$1` are no secrets either."""
    if is_holder(value):
        return True
    value = _without_scheme(value)
    if len(value) >= 80 or (value != value.lower() and value != value.upper()):
        return False
    if value.translate(None, b"0123456789") != value:
        return _ARGUMENT.fullmatch(value) is not None
    return _IN_PROSE.fullmatch(value) is not None


def _without_scheme(value: bytes) -> bytes:
    scheme, _, rest = value.partition(b" ")
    return rest.strip() if rest and scheme.lower() in _SCHEMES else value


def _leaves(text: bytes) -> list[bytes]:
    """The strings and numbers of a text that is JSON."""
    try:
        todo: list[Any] = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        return []
    found: list[bytes] = []
    while todo and len(found) < 100:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, (str, int)) and not isinstance(value, bool):
            found.append(str(value).encode())
    return found


class Record(Budget):
    """One for each record; the grammars are functions that take it first."""

    __slots__ = ("cut", "labels", "masked", "names", "redacted", "rules", "scan", "tail")

    def __init__(self, names: Names, scan: Scan, rules: PathRules) -> None:
        self.left = STEPS_MAX
        self.aws = False
        self.names = names
        self.scan = scan
        self.rules = rules
        self.redacted: list[str] = []  # the paths of what was masked
        self.masked: list[bytes] = []  # and the values, as UTF-8
        self.cut = False  # what is looked at ends early
        self.tail = b""  # where it ends
        self.labels = False  # what is looked at may have labels and messages of forms

    def alarms(self, data: bytes) -> list[Alarm]:
        return self.scan.alarms(data, self, cut=self.cut)

    def undone(self, raw: bytes, escapes: Escapes) -> tuple[bytes, Layer | None]:
        """The text without these escapes, and the way back when there are some."""
        if escapes.mark not in raw:
            return raw, None
        layer = Layer(raw, escapes, self)
        return layer.plain, layer

    def escaped_value(self, raw: bytes, start: int, escapes: Escapes, kind: int, depth: int) -> list[Edit]:
        """Edits of a value that is escaped at `start`, under a name of this kind."""
        plain, layer = self.undone(raw, escapes)
        return placed(self.value(plain, kind, depth), start, layer)

    def note(self, path: str) -> None:
        """A path of what was masked; the first 64."""
        if len(self.redacted) < PATHS_MAX and (path := path[:PATH_MAX]) not in self.redacted:
            self.redacted.append(path)

    def hide(self, value: bytes) -> None:
        """A value was masked: it is searched for in the whole record."""
        value = value.strip(b" \t\r\n\\\"'`,;")
        hidden(self.masked, value)
        if value[:1] in (b"{", b"["):
            for leaf in _leaves(value):
                hidden(self.masked, leaf)
        word = value.partition(b" ")
        if word[1] and (len(word[0]) >= 20 or made(word[0])):
            hidden(self.masked, word[0])

    def mask(self, start: int, end: int, plain: bytes) -> Edit:
        """plain: the decoded text at that position."""
        self.hide(plain)
        return start, end, MASK

    def value(self, plain: bytes, kind: int, depth: int) -> list[Edit]:
        """Edits of a decoded value under a name of this kind: all of it, or parts by their own form."""
        if not plain or plain == MASK:
            return []
        if kind:
            if self.is_holder(plain):
                return []
            if (
                (kind == YES and plain.lower() not in _BOOLEANS)
                or (kind in (TEXT, MANY, COUNT) and not _NUMBER.fullmatch(plain) and plain.lower() not in _BOOLEANS)
                or (kind == MADE and made(plain))
            ):
                return [self.mask(0, len(plain), plain)]
            if kind == QUOTED:
                self.spend(1 + len(plain) // 64)
                edits = self.inner(plain, depth + 1)
                found = [m.span(1) for m in _ECHOED.finditer(plain) if self._is_quoted(m)]
                found = [(start, end) for start, end in found if all(e <= start or end <= s for s, e, _ in edits)]
                return sorted([*edits, *(self.mask(start, end, plain[start:end]) for start, end in found)])
        return self.inner(plain, depth + 1)

    def _is_quoted(self, quoted: re.Match[bytes]) -> bool:
        value = quoted[1]
        before = quoted.string[: quoted.start()]
        return (
            _IN_VALUE.search(value) is not None
            and not self.names.is_name(value)
            and not value.startswith((b"https://", b"http://"))
            and not before.endswith((b"pattern ", b"regex ", b"expression "))  # what it must match
        )

    def is_label(self, value: bytes) -> bool:
        """Whether a value is the label or message of a form. Requests hold passwords, so nothing in them is; nor is the
        beginning of a value that is cut off."""
        return self.labels and is_label(value) and not self.tail.endswith(value.split()[-1])

    def is_holder(self, value: bytes) -> bool:
        """Whether data under a sensitive name is no secret."""
        return is_holder(value) or self.is_label(value)

    def is_holder_in_prose(self, value: bytes) -> bool:
        return is_holder_in_prose(value) or self.is_label(value)

    def inner(self, plain: bytes, depth: int, alarms: list[Alarm] | None = None) -> list[Edit]:
        """Edits of a decoded text that may be a document of its own. See `judge`."""
        raise NotImplementedError

    def plain(self, text: bytes, alarms: list[Alarm], depth: int) -> list[Edit]:
        """Edits of markup or text that is no document of another grammar. See `judge`."""
        raise NotImplementedError
