"""The grammar of paths: an operator's rules, tokens after `reset-password` and the like, matrix parameters
(`;jsessionid=x`), segments `name=value`, and segments that are a secret by their form."""

from __future__ import annotations

import re
from itertools import islice
from urllib.parse import unquote_to_bytes

from .alarms import FORM, Alarm
from .forms import made, userinfo
from .layers import PERCENT, Edit, Layer, placed
from .names import YES
from .record import MASK, Record

__all__ = ["may_hide", "path_edits", "token_edits"]

_WORDS = (
    "reset|verify|verification|confirm|confirmation|activate|activation|invites?|invitations?|magic|recover|recovery"
    "|unsubscribe|password|passwordless|unlock|token|one-?time|otp|secret|api[-_]?key"
)
_OFTEN_IDS = "(?:web)?hooks?|session|join|login|code"  # behind these a UUID or a hash may be a harmless id
_TOKEN_WORD = re.compile(
    (rf"(?:(?<![A-Za-z])(?i:{_WORDS}|(?P<ids>{_OFTEN_IDS}))|(?:{_WORDS.title()}))(?![a-z])").encode()
)
_SEGMENT = re.compile(rb"[^/?#\s<>\"]+")
_WHOLE = re.compile(rb"[^/]+")  # of a field that is one path
_PATH_END = re.compile(rb"[?#]")
# Behind `/otp/`, `/password/`: a code, or a word with two digits, which `/password/policy` has not.
_CODE_OR_WORD = re.compile(rb"[0-9]{4,10}|(?=[^0-9]*[0-9][^0-9]*[0-9])(?=[^A-Za-z\x80-\xff]*[A-Za-z\x80-\xff])[^/]{8,}")
_HEX_WORD = re.compile(rb"[0-9a-fA-F-]{24,}")
_PATH_PARTS = re.compile(rb"([/;])")
_ALARMS_MAX = 100
_SEGMENTS_MAX = 61

# Beside the marks of a pair, an escape and user information: what may be a token, a code, a card number. Each begins
# with a set, so that a search passes over other letters without trying it there.
_LONG = 16
_LONG_WORD = re.compile("[A-Za-z0-9_-][A-Za-z0-9_-]{15}").search
_DIGITS = re.compile("[0-9][0-9]{3}").search
_NUMBER = re.compile("[0-9][0-9]{3}[ -]?[0-9]{4}").search
_CODE = re.compile("/[0-9]{4}").search


def may_hide(path: str) -> bool:
    """Whether `path_edits` may change it. Without an operator's rule or form, other paths have no place for a secret
    that we know. Each request has a path, and an expression for the words in any letter case takes 2 µs."""
    if "=" in path or "%" in path or "@" in path or (len(path) >= _LONG and _LONG_WORD(path) is not None):
        return True
    digits = _DIGITS(path) is not None
    if digits and _NUMBER(path) is not None:
        return True
    if digits and _CODE(path) is not None:
        low = path.lower()
        return "otp" in low or "pin" in low or "code" in low or "verify" in low or "password/" in path
    return "password/" in path or "token/" in path


def token_edits(record: Record, path: bytes, *, whole: bool = False) -> list[Edit]:
    """The segments, in a path or URL, that an operator's rule names, and those that follow a word such as
    `reset-password` or `verify` and look random. whole: this is a path, and no URL around one."""
    edits = []
    before: bytes = b""
    twice: bytes = b""
    scheme = path.find(b"://")
    begin = max(0, path.find(b"/", scheme + 3)) if scheme >= 0 else 0
    if record.rules:
        edits += _ruled(record, path, begin, whole)
    for m in islice(_SEGMENT.finditer(path, begin), _SEGMENTS_MAX):
        segment = m[0]
        first = list(_TOKEN_WORD.finditer(before[:80]))
        words = first + list(_TOKEN_WORD.finditer(twice[:80]))  # `login-verify`, `reset/login`
        word = next((w for w in words if not w["ids"]), words[0] if words else None)
        if word is not None and not segment.startswith(b"0x"):
            plain = unquote_to_bytes(segment)
            known = _HEX_WORD.fullmatch(plain) is not None
            if (len(plain) >= 16 and (not word["ids"] if known else made(plain))) or (
                first and _CODE_OR_WORD.fullmatch(plain) and record.names.kind(before) == YES
            ):
                edits.append(record.mask(*m.span(), plain))
        if path[m.end() : m.end() + 1] in (b"?", b"#", b" "):
            before = twice = b""
        else:
            before, twice = segment, before
    return edits


def _ruled(record: Record, path: bytes, begin: int, whole: bool) -> list[Edit]:
    """The segments that an operator's rules mask."""
    stop = None if whole else _PATH_END.search(path, begin)
    segment = _SEGMENT if begin and not whole else _WHOLE
    found = list(segment.finditer(path, begin, stop.start() if stop else len(path)))
    record.spend(1 + (len(found) >> 1))
    plain = [unquote_to_bytes(m[0].partition(b";")[0]) for m in found]
    return [record.mask(*found[at].span(), plain[at]) for at in sorted(record.rules.masked(plain))]


def path_edits(record: Record, path: bytes) -> list[Edit]:
    """Edits of a path, decoded or as received: matrix parameters (`;jsessionid=x`), segments `name=value`, segments
    that are a secret by their form, tokens after `reset-password` and the like."""
    edits = [record.mask(s, e, path[s:e]) for s, e in userinfo(path)]
    edits += token_edits(record, path, whole=True)
    edits += [record.mask(a.start, a.end, path[a.start : a.end]) for a in record.alarms(path) if a.what == FORM]
    apart = path.replace(b"/", b"\n")
    if not record.alarms(apart) and not any(record.alarms(layer.plain) for layer in _all_percent(record, apart)):
        return edits
    at = 0
    alarmed = 0
    for part in _PATH_PARTS.split(path):
        start, at = at, at + len(part)
        layers = _all_percent(record, part)
        plain = layers[-1].plain if layers else part
        alarms = record.alarms(plain)
        if not alarms:
            continue
        alarmed += 1
        if alarmed > _ALARMS_MAX:
            edits.append((start, len(path), MASK))
            break
        found = _segment(record, plain, alarms)
        for layer in reversed(layers):
            found = layer.back(found)
        edits += placed(found, start)
    return edits


def _all_percent(record: Record, part: bytes) -> list[Layer]:
    """The layers of a segment that is percent-encoded, also twice and three times."""
    layers: list[Layer] = []
    while 37 in part and len(layers) < 3:
        layers.append(Layer(part, PERCENT, record))
        part = layers[-1].plain
    return layers


def _segment(record: Record, plain: bytes, alarms: list[Alarm]) -> list[Edit]:
    name, equals, value = plain.partition(b"=")
    if any(alarm.what == FORM for alarm in alarms):
        return [record.mask(a.start, a.end, plain[a.start : a.end]) for a in alarms if a.what == FORM]
    if equals:
        return placed(record.value(value, record.names.kind(name), 0), len(name) + 1)
    return record.inner(plain, 1, alarms)
