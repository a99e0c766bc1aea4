"""Finds secrets that were masked at one place of an exchange and occur at another one under a harmless name.

Example: the request has `?token=abc`, and the response `"args": ["abc"]`. The same happens with the `input` of a
validation error, a form that is filled in again, or a `Location`. So the masked values are remembered while a record is
built, and its fragments are searched for them before it is sealed.

A usual record contains none, and this case must be cheap. Each secret costs four searches of the record's bytes: for
its longest run of letters and digits (which escaping for JSON, URLs or HTML does not change), and for its base64 at the
three offsets. Only when one of them matches, or letters are escaped, the strings are decoded and the secret is replaced
by the mask. A string that still contains it in a spelling that cannot be replaced is masked whole.

Bounds: at most `SECRETS_MAX` secrets of `SECRET_BYTES_MAX` bytes together; a fragment with more than a few of them and
many strings is left out. Not collected, because harmless text would be masked too: values below six characters, short
words, media types, names of fields (a password `password`), cookies that do not look machine-generated. Not recognised:
a secret in other letter case, hashed, cut or compressed. The values are dropped when their record is built.
"""

from __future__ import annotations

import html
import re
import string
from base64 import b64decode
from binascii import b2a_base64
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii
from typing import Any
from urllib.parse import unquote

import orjson

from .names import STEMS
from .tables import REDACTED

_AhoCorasick: Any
try:
    from ahocorasick_rs import BytesAhoCorasick, Implementation

    _AhoCorasick = partial(BytesAhoCorasick, implementation=Implementation.NoncontiguousNFA)  # the fastest to build
except ImportError:
    _AhoCorasick = None

__all__ = [
    "SECRETS_MAX", "SECRET_BYTES_MAX", "Search", "hidden", "hidden_bytes", "hidden_header",
    "hidden_weak",
]  # fmt: skip

SECRETS_MAX = 64
SECRET_BYTES_MAX = 8_192
_SECRET_MAX = 4_096
_COLLECTED_MAX = 256
_SHORTEST = 6
_ROUNDS_MAX = 4
_ESCAPES_MAX = 4_000  # that are undone for one record
# What may be looked at closely of a record: a string counts as four secrets, and each secret that it may hold as one,
# which takes about 5 µs. That are 240 strings with one secret each.
_LOOKED_AT_MAX = 1_200
_STRING_COST = 4
_SINGLY_MAX = 4
_WORK_MAX = 2 << 20  # bytes of strings that are searched for all secrets of a record: 1 ns each, four times
_FIND_BYTES = 100  # what a search costs, whatever it is in
_NEEDLE_MAX = 24  # bytes, the last of a needle: an automaton of whole tokens takes 5 ms to make
_MASK = REDACTED.encode()
_MASKED = b'"' + _MASK + b'"'

# Values under sensitive names that are no secrets.
_COMMON = frozenset({
    "anonymous", "required", "optional", "disabled", "undefined", "unauthorized", "forbidden", "redacted", "username",
    "accesstoken", "refreshtoken", "idtoken", "csrftoken", "xsrftoken", "clientsecret", "setcookie", "bearertoken",
    "authorizationcode", "clientcredentials", "newpassword", "oldpassword", "currentpassword", "confirmpassword",
    "samesite", "httponly", "operation", "principal", "annotations", "localhost", "text/plain",
    *(stem.replace("_", "") for stem in STEMS),
})  # fmt: skip
_MEDIA_TYPE = re.compile(rb"(?:application|text|image|audio|video|font|multipart|message)/[a-z0-9.+*-]+")
_LETTERS = bytes(c if bytes((c,)).isalnum() else 32 for c in range(256))
_QUOTES = b" \t\r\n\"'"
# Escaped letters and digits, which only a text that hides something has; it may contain a secret in any spelling.
# Three expressions that each begin with a literal: one of all three takes 100 µs a kB.
_LETTER = rb"(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA])"
_PERCENT = re.compile(rb"%(?:25)*" + _LETTER)
_UNICODE = re.compile(rb"\\u00" + _LETTER)
_ENTITY = re.compile(rb"&#(?:[xX]0*" + _LETTER + rb"|0*(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|9[0789]|1[01][0-9]|12[0-2]))")
# An unclosed string continues to the end: tried at each quote in it, the search would be quadratic.
_STRING = re.compile(rb'"([^"\\]*+(?:\\[\x00-\xff][^"\\]*+)*)(?:"|\\?\Z)(\s*+:)?|-?[0-9][0-9.eE+-]*+')
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*")
_UNQUOTED = string.ascii_letters + string.digits + "_.~-"
# Each byte as a URL has it, in capitals and not: frameworks keep no sign, slashes, or what paths may have. Three times
# as fast as `quote`, and an expression for the letters of its escapes.
_QUOTED = [
    [[chr(c) if chr(c) in kept else escape % c for c in range(256)].__getitem__ for escape in ("%%%02X", "%%%02x")]
    for kept in (_UNQUOTED, _UNQUOTED + "/", _UNQUOTED + "/:@!$&'()*+,;=")
]
_BACKSLASH = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def hidden(masked: list[bytes], value: bytes) -> None:
    """A value was masked."""
    if len(masked) < _COLLECTED_MAX:
        masked.append(value)


def hidden_weak(masked: list[bytes], value: bytes) -> None:
    """The same of a value that may be none, the theme or language in a cookie: only when a machine made it."""
    letters = value.translate(None, b"0123456789._-")
    if len(value) >= 20 or (len(value) >= 8 and 0 < len(letters) < len(value)):
        hidden(masked, value)


def hidden_header(masked: list[bytes], value: bytes) -> None:
    """A header was masked whole: a token, `Bearer …`, or `Basic …` with a password in it."""
    if 32 in value:
        scheme, _, value = value.strip().partition(b" ")
        value = value.strip()
        if scheme.lower() == b"basic":
            try:
                hidden(masked, b64decode(value, validate=True).partition(b":")[2])
            except ValueError:
                pass
        elif 44 in value and 61 in value.rstrip(b"="):
            for part in value.split(b",", 16):
                hidden_weak(masked, part.partition(b"=")[2].strip(_QUOTES))
    hidden_bytes(masked, value)


def hidden_bytes(masked: list[bytes], value: bytes, *, weak: bool = False) -> None:
    """The value of a header, in which UTF-8 may stand or Latin-1."""
    hide = hidden_weak if weak else hidden
    hide(masked, value)
    if not value.isascii():
        hide(masked, value.decode("latin-1").encode())


def _is_secret(value: bytes) -> bool:
    size = len(value)
    if 8 <= size <= 24 and value.isalnum() and not value.isalpha() and not value.isdigit():  # most passwords
        return True
    if size < _SHORTEST or size > _SECRET_MAX or (size < 8 and value.isalpha()):
        return False
    if size <= 24 and (
        value.count(value[:1]) == size
        or value == _MASK
        or value.translate(None, b"-_ ").decode("latin-1").lower() in _COMMON
    ):
        return False
    return 47 not in value or not _MEDIA_TYPE.fullmatch(value)


class _TooMany(Exception):
    """More strings than may be examined closely."""


class Search:
    """The secrets of one record."""

    def __init__(self, masked: list[bytes], path: str = "") -> None:
        """path: the request's, which no cookie that remembers it may hide."""
        unique = dict.fromkeys(masked)
        self.secrets: list[bytes] = []
        self.found: dict[bytes, tuple[bytes, ...]] = {}
        self.work_left = _WORK_MAX
        self.room = _LOOKED_AT_MAX
        self.escapes_left = _ESCAPES_MAX
        self.spelled: dict[bytes, Spelled] = {}
        self.scan: Callable[[bytes], list[tuple[int, int, int]]] | None = None
        size = 0
        for value in unique:
            if not _is_secret(value):
                value = value.strip(_QUOTES)
                if not _is_secret(value):
                    continue
            if value[:1] == b"/" and value.decode("utf-8", "replace") in path:
                continue
            if len(self.secrets) >= SECRETS_MAX:
                break
            if size + len(value) <= SECRET_BYTES_MAX:
                size += len(value)
                self.secrets.append(value)

    def needles(self) -> dict[bytes, tuple[bytes, ...]]:
        """By secret: byte strings, at least one of which occurs wherever the secret does."""
        if not self.found:
            self.found = {s: (*_needles(s), *_base64(s)) for s in self.secrets}
        return self.found

    def hits(self, data: bytes) -> list[int]:
        """Places, in their order, where one of them may stand; of those that overlap, one."""
        forms = self.needles().values()
        if _AhoCorasick is not None and len(self.secrets) > _SINGLY_MAX:
            if self.scan is None:
                self.scan = _AhoCorasick(
                    [n[-_NEEDLE_MAX:] for needles in forms for n in needles]
                ).find_matches_as_indexes
            return [start for _, start, _ in self.scan(data)]
        found: list[int] = []
        for needles in forms:
            for needle in needles:
                at = data.find(needle)
                while at >= 0:
                    found.append(at)
                    at = data.find(needle, at + len(needle))
        if found:
            found.sort()
        return found

    def may_hit(self, record: bytes) -> bool:
        """Whether one of them may stand in these bytes, which are JSON, in any spelling."""
        return bool(self.secrets) and (bool(self.hits(record)) or _hides(record))

    def masked(self, fragment: bytes, *, keys: bool = True, numbers: bool = True) -> bytes:
        """The fragment, which is JSON or a piece of an object, with the secrets masked in its strings; the very same
        object when there were none. keys: names of members are searched too."""
        hides = _hides(fragment)
        hits = self.hits(fragment) if self.secrets else []
        if not hides and not hits:
            return fragment
        digits = [s for s in self.secrets if s.strip(b"-").replace(b".", b"").isdigit()] if numbers else []

        def one(m: re.Match[bytes]) -> bytes:
            token: bytes = m[0]
            raw = m[1]
            if raw is None:
                return _MASKED if digits and _same_number(token, digits) else token
            if len(raw) < _SHORTEST or (m[2] is not None and not keys):
                return token
            start, end = m.span(1)
            at = bisect_left(hits, start)
            riddled = hides and _hides(raw)
            if not riddled and (at == len(hits) or hits[at] >= end):
                return token
            new = self.string(raw, self.secrets if riddled else self.within(raw))
            return token if new is None else new + (m[2] or b"")

        try:
            out = _STRING.sub(one, fragment)
        except _TooMany:
            return _left_out(fragment)
        return fragment if out == fragment else out

    def within(self, raw: bytes) -> list[bytes]:
        """The secrets that may stand in this string, which hides none. Raises _TooMany."""
        self.work_left -= len(self.secrets) * (len(raw) + _FIND_BYTES)
        if self.work_left < 0:
            raise _TooMany
        return [s for s, needles in self.needles().items() if any(raw.find(needle) >= 0 for needle in needles)]

    def string(self, raw: bytes, found: list[bytes]) -> bytes | None:
        """The string with what is found of these secrets masked; None when nothing is. raw: between the quotes.
        Raises _TooMany."""
        self.room -= _STRING_COST + len(found)
        if self.room < 0:
            raise _TooMany
        secrets = [self.spelled.get(s) or self.spelled.setdefault(s, Spelled(s)) for s in found]
        text: str = orjson.loads(b'"' + raw + b'"') if 92 in raw else raw.decode()
        new = text
        for secret in secrets:
            for form in secret.forms:
                if form in new:
                    new = new.replace(form, REDACTED)
        if self.still(new, secrets):
            new = REDACTED
        return None if new == text else orjson.dumps(new)

    def still(self, text: str, secrets: list[Spelled]) -> bool:
        """Whether the text contains a secret in a spelling that was not replaced."""
        if not _hides(text.encode()) and not any(not s.core or s.core in text for s in secrets):
            return False
        if any(s.text in text for s in secrets):
            return True
        for _ in range(_ROUNDS_MAX):
            before = text
            for mark, undo in (("%", unquote), ("&", html.unescape), ("\\", _plain)):
                if mark in text:
                    self.escapes_left -= text.count(mark)
                    if self.escapes_left < 0:
                        return True  # undoing them would take milliseconds
                    text = undo(text)
                    spaced = text.replace("+", " ") if "+" in text else text
                    if any(s.text in text or s.text in spaced for s in secrets):
                        return True
            if text == before:
                break
        return False


def _left_out(fragment: bytes) -> bytes:
    """The replacement of a fragment in which the search would take too long: of the same type, as far as that is
    promised."""
    if fragment[:1] == b"{":
        return b'{"%b":%b}' % (_MASK, _MASKED)
    if fragment[:1] == b",":
        return b""
    return _MASKED


def _hides(data: bytes) -> bool:
    return (
        (37 in data and _PERCENT.search(data) is not None)
        or (92 in data and _UNICODE.search(data) is not None)
        or (38 in data and _ENTITY.search(data) is not None)
    )


def _longest_run(secret: bytes) -> bytes:
    """Of letters and digits; the first of them."""
    return max(secret.translate(_LETTERS).split(), key=len, default=b"")


def _needles(secret: bytes) -> list[bytes]:
    """Byte strings, at least one of which occurs wherever the secret does, also when escaped for JSON, URLs or HTML,
    unless letters are escaped."""
    if secret.isalnum():
        return [secret]
    run = _longest_run(secret)
    if len(run) >= _SHORTEST or len(run) == len(secret):
        return [run]
    return [orjson.dumps(text)[1:-1] for text in _spellings(secret.decode("utf-8", "replace"))]


def _base64(secret: bytes) -> list[bytes]:
    """Byte strings that occur in the base64 of any text with the secret; of both alphabets."""
    size = len(secret)
    # Three copies encoded at once, which begin at the three offsets inside a group of three bytes.
    fill = b"\0" * (1 + -size % 3)
    second = size + len(fill)
    third = second + second
    whole = b2a_base64(secret + fill + secret + fill + secret, newline=False)
    out = [
        whole[: size * 8 // 6],
        whole[(second - 1) // 3 * 4 + 2 : (second + size) * 8 // 6],
        whole[(third - 2) // 3 * 4 + 3 : (third + size) * 8 // 6],
    ]
    if 43 in whole or 47 in whole:
        for needle in out[:3]:
            if 43 in needle or 47 in needle:
                out.append(needle.replace(b"+", b"-").replace(b"/", b"_"))
    return out


def _spellings(text: str) -> list[str]:
    """The spellings that frameworks write, the longest first; none is part of another one that is left."""
    json_ascii = _json_ascii(text)
    json_text = orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1].decode()
    twice = orjson.dumps(json_text)[1:-1].decode()
    found = {text, json_ascii, json_text, twice, _json_ascii(json_ascii)}
    if _UNRESERVED.fullmatch(text):  # no URL and no HTML escapes it
        return sorted(found, key=len, reverse=True)
    raw = text.encode()
    for upper, lower in _QUOTED:
        url = "".join(map(upper, raw))
        found.update((url, "".join(map(lower, raw)), url.replace("%", "%25")))
    found.add("".join(map(_QUOTED[0][0], raw)).replace("%20", "+"))
    escaped = html.escape(text)
    found.update(
        (escaped, html.escape(text, quote=False), escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;"))
    )
    found.update((text.replace("'", "\\'"), escaped.replace("&#x27;", "&#39;")))
    return sorted(found, key=len, reverse=True)


def _json_ascii(text: str) -> str:
    return encode_basestring_ascii(text)[1:-1]


class Spelled:
    """A secret with everything that is searched for it."""

    __slots__ = ("core", "forms", "text")

    def __init__(self, secret: bytes) -> None:
        self.text = secret.decode("utf-8", "replace")
        if self.text.isascii() and self.text.isalnum():
            self.forms = [self.text]
        else:
            self.forms = _spellings(self.text)
        self.forms += [needle.decode() for needle in _base64(secret)]
        run = _longest_run(secret)
        self.core = run.decode() if len(run) >= _SHORTEST else ""


def _plain(text: str) -> str:
    """One round of backslash escapes undone."""

    def one(m: re.Match[str]) -> str:
        c: str = m[1]
        return chr(int(c[1:], 16)) if len(c) == 5 else _UNESCAPED.get(c, c)

    return _BACKSLASH.sub(one, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _same_number(token: bytes, digits: list[bytes]) -> bool:
    token = token.lstrip(b"-")
    if token.endswith(b".0"):
        token = token[:-2]
    return any(token == d.lstrip(b"-") or (len(d) >= 10 and d in token) for d in digits)
