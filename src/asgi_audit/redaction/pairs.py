"""The grammars of pairs: query, form and URL.

A pair is examined when it has an alarm, encoded or decoded. Its value is masked because of its name, or judged as a
separate document; an edit inside an escaped value is escaped in the same way.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .alarms import FORM, NAME, Alarm, Places
from .forms import userinfo
from .layers import PERCENT, Edit
from .names import ASKED, CODE, NO, YES, norm
from .paths import token_edits
from .record import CANDIDATE, MASK, Record, TooCostly, shown
from .tables import words

__all__ = ["PAIRS_MAX", "decoded", "pairs_edits", "url_edits"]

PAIRS_MAX = 2_000
_LABELS, _VALUED = frozenset(words("labels")), frozenset(words("valued"))
_ANSWERS = frozenset(words("answers"))
_OAUTH = frozenset(map(norm, words("oauth")))
# In a URL `;` and `#` end a value only where a pair follows: a password may hold them.
_IN_URL = re.compile(rb"[?&]|[;#](?=[^=&#;\s]{0,100}=)")
_NO_NAME = re.compile(rb"[:={<%]")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_LONE_SIGNS_MAX = 2_000
_DOCUMENT = re.compile(rb"[:={<]")
# Names that often say something else, with a value that a machine may have made.
_SOMETIMES = (b"hmac", b"ticket", b"sign", b"magic", b"invite", b"assertion", b"access", b"refresh")
_SOMETIMES_MAX = 1 + max(map(len, _SOMETIMES))
# Their last letters, and a long value.
_LONG = re.compile(rb"=(?<=(?i:ac|et|gn|ic|te|on|ss|sh)=)(?=[^&;#=]{16})")
# What `_told` looks at more closely.
_TELLS = re.compile(rb"code|v(?i:alue=)|V(?i:alue=)|variables=|params=|uestion")
_QUERIES = frozenset(("query", "sql", "q"))
_NO_PLACES = Places([])
_BETWEEN = b"{\n"  # no needle has a brace but at its end, so none spans two texts


def decoded(text: bytes) -> bytes:
    """Percent and plus undone, once. Raises TooCostly for thousands of percent signs that begin no escape: no client
    sends them, and `unquote_to_bytes` takes a step for each sign, up to 80 ms for a record."""
    if 43 in text:
        text = text.replace(b"+", b" ")
    if 37 not in text:
        return text
    signs = text.count(b"%") if len(text) > _LONE_SIGNS_MAX else 0
    if signs > _LONE_SIGNS_MAX and signs - len(_ESCAPE.findall(text)) > _LONE_SIGNS_MAX:
        raise TooCostly
    try:  # in half the time of `unquote_to_bytes`
        return text.replace(b"\\", b"\\\\").replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")
    except UnicodeDecodeError:  # a percent sign that begins no escape
        return unquote_to_bytes(text)


def pairs_edits(
    record: Record, raw: bytes, depth: int, base: str = "", *, url: bool = False, alarms: list[Alarm] | None = None
) -> list[Edit]:
    """Edits of `name=value&…` as received. base: paths are noted when it is not empty. url: after `?` too."""
    parts = _IN_URL.split(raw) if url else raw.split(b"&", PAIRS_MAX + 1)
    if len(parts) > PAIRS_MAX:
        if alarms or record.alarms(raw) or record.alarms(decoded(raw)):
            raise TooCostly
        return []
    alarmed, starts = _alarmed(record, raw, parts, alarms)
    if _LONG.search(raw) is not None:
        starts |= _sometimes(raw)
    if not (alarmed.alarms or starts or raw.find(b"code=") >= 0):
        return []
    told = _told(record, raw, parts)
    record.spend(len(parts) + len(raw) // 64)
    edits: list[Edit] = []
    end = -1
    for part in parts:
        start, end = end + 1, end + 1 + len(part)
        if not (told or start in starts or alarmed.within(start, end)):
            continue
        record.spend(CANDIDATE)
        found = _pair(record, part, start, depth, told)
        if found and base:
            name = decoded(part.partition(b"=")[0])
            record.note(base + "." + (MASK.decode() if found[0][0] == start else shown(name)))
        edits += found
    return edits


def _sometimes(raw: bytes) -> set[int]:
    """Where pairs with one of these names begin, and a long value."""
    found: set[int] = set()
    for m in _LONG.finditer(raw):
        before = raw[max(0, m.start() - _SOMETIMES_MAX) : m.start()]
        name = before[max(map(before.rfind, (b"&", b"?", b";", b"#"))) + 1 :]
        if name.lower() in _SOMETIMES:
            found.add(m.start() - len(name))
    return found


def _alarmed(
    record: Record, raw: bytes, parts: list[bytes], alarms: list[Alarm] | None
) -> tuple[Places, frozenset[int]]:
    """The alarms of the text as received, and where parts begin in which decoding shows one, or more escapes. One scan
    finds both, unless an alarm may reach from one text into the other."""
    escaped = [part for part in parts if 37 in part or 43 in part] if 37 in raw or 43 in raw else []
    if not escaped:
        return _places(record.alarms(raw) if alarms is None else alarms), frozenset()
    record.spend(raw.count(b"%") // 4)
    plain = decoded(b"&".join(escaped))
    if alarms is None and not record.cut and not record.scan.has_own_forms:
        both = _places(record.alarms(raw + _BETWEEN + plain))
        if not any(alarm.start <= len(raw) < alarm.end for alarm in both.alarms):
            return both, _shown(record, parts, plain, both, len(raw) + len(_BETWEEN))
    alarmed = _places(record.alarms(raw) if alarms is None else alarms)
    return alarmed, _shown(record, parts, plain, _places(record.alarms(plain)), 0)


def _places(alarms: list[Alarm]) -> Places:
    return Places(alarms) if alarms else _NO_PLACES


def _shown(record: Record, parts: list[bytes], plain: bytes, places: Places, at: int) -> frozenset[int]:
    """Where parts begin in which only decoding shows a name or form, or more escapes. places: of the decoded text of
    those with escapes, which begins at `at` there."""
    more = 37 in plain or record.cut or record.aws
    if not more and (not places.alarms or places.starts[-1] < at):
        return frozenset()
    found: list[int] = []
    start = 0
    for part in parts:
        if 37 in part or 43 in part:
            size = len(text := decoded(part))
            if places.within(at, at + size) or 37 in text or record.cut or record.aws:
                found.append(start)
            at += size + 1
        start += len(part) + 1
    return frozenset(found)


def _told(record: Record, raw: bytes, parts: list[bytes]) -> frozenset[str]:
    """Names of parameters whose values something beside them tells: OAuth's code, labels, variables of a query."""
    if _TELLS.search(raw) is None:
        return frozenset()
    has_code, has_value = raw.find(b"code") >= 0, raw.lower().find(b"value=") >= 0
    has_variables = raw.find(b"variables=") >= 0 or raw.find(b"params=") >= 0
    has_question = raw.find(b"uestion") >= 0
    record.spend(2 * len(parts))
    told: set[str] = set()
    names = set()
    for part in parts:
        name, _, value = part.partition(b"=")
        low = norm(decoded(name)[:60].decode("utf-8", "replace"))
        names.add(low)
        if has_question and record.names.kind(decoded(name)) == ASKED:
            told |= _ANSWERS
        if low in _LABELS and has_value and len(value) <= 100 and record.names.is_field(decoded(value)):
            told |= _VALUED
        if low in _QUERIES and has_variables and any(a.what == NAME for a in record.alarms(decoded(value))):
            told |= {"variables", "params"}
    if has_code and "code" in names and names & _OAUTH:
        told.add("code")
    return frozenset(told)


def _pair(record: Record, part: bytes, start: int, depth: int, told: frozenset[str]) -> list[Edit]:
    name, equals, value = part.partition(b"=")
    plain = decoded(name)
    kind = record.names.kind(plain) if equals else NO
    if told and norm(plain[:60].decode("utf-8", "replace")) in told:
        kind = YES
    elif kind in (ASKED, CODE):
        kind = NO
    edits: list[Edit] = []
    if len(plain) > 6 and (not equals or kind == NO or _NO_NAME.search(plain)):
        edits = record.escaped_value(name.replace(b"+", b" "), start, PERCENT, NO, depth)
        if edits and equals and _DOCUMENT.search(plain):  # a document as a name: its value was split off
            return [*edits, *_whole(record, value, start + len(part))]
    if not equals or not value:
        return edits
    return edits + record.escaped_value(value.replace(b"+", b" "), start + len(name) + 1, PERCENT, kind, depth)


def _whole(record: Record, value: bytes, end: int) -> list[Edit]:
    return [record.mask(end - len(value), end, decoded(value))] if value else []


def url_edits(record: Record, raw: bytes, depth: int) -> list[Edit]:
    """Edits of a field that is one URL, or a header with URLs in it: user information, path, parameters."""
    edits = [record.mask(s, e, unquote_to_bytes(raw[s:e])) for s, e in userinfo(raw, whole=raw.find(b"<") < 0)]
    edits += token_edits(record, raw)
    if 61 not in raw or raw.find(b"<") >= 0:
        return edits + record.inner(raw, depth + 1)
    alarms = record.alarms(raw)
    edits += [record.mask(a.start, a.end, raw[a.start : a.end]) for a in alarms if a.what == FORM]
    return edits + pairs_edits(record, raw, depth, url=True, alarms=alarms)
