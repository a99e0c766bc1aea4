"""The grammar of sequences: events of a server (`data:` lines), JSON lines.

Each payload that is JSON is masked as JSON, the rest as text. A text that a stream sends in pieces is joined before it
is judged: the successive values of one key (`"content"` of each delta), and the plain data of successive events. Masked
parts of the joined text are then cut out of the pieces. A name in one event and its value in the next are one pair.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate

from .alarms import Alarm, Places
from .json_document import json_edits
from .layers import JSON_STRING, Edit, Escapes, Layer, placed
from .multisearch import alternation
from .record import MASK, Record

__all__ = ["is_sequence", "sequence_edits"]

_LABEL = re.compile(rb"event-stream|ndjson|json(?:l|-seq)")
_DATA = re.compile(rb"^[ \t\x1e]*+(?:(data:)[ \t]?+|(?=[{\[]))([^\n]*)", re.M)
# At the beginning, or after a line feed: `^` would be tried at each byte.
_JSON_FIRST = re.compile(rb"[ \t\x1e]*+(?:data:[ \t]*+)?[{\[]")
_JSON_LINE = re.compile(rb"\n[ \t\x1e]*+(?:data:[ \t]*+)?[{\[]")
_PLAIN_DATA = re.compile(rb"\ndata:[ \t]?+[^{\[\r\n]")
_FOLDED = Escapes(10, re.compile(rb"\r?\ndata:[ \t]?"), lambda _: b"\n")
_KEYS = (
    "content", "text", "delta", "token", "arguments", "partial_json", "output", "response", "completion",
    "reasoning_content", "thinking", "transcript", "generated_text",
)  # fmt: skip
_PIECE = re.compile((r'"(' + alternation(_KEYS) + r')"[ \t]*:[ \t]*"([^"\\]*+(?:\\.[^"\\]*+)*)"').encode())
_NAMED = re.compile(rb'"(?:name|key|field|label|param|header)"[ \t]*:[ \t]*"([\w.-]{2,60})"')
_VALUED = re.compile(
    rb'"(?:value|val|input|data|content|text|answer|v)"[ \t]*:[ \t]*(?:"([^"\\]*+(?:\\.[^"\\]*+)*)"|([0-9]+))'
)
_PAYLOADS_MAX = 3_000


def is_sequence(text: bytes, content_type: bytes) -> bool:
    """Whether this is a stream of events or of JSON lines, by its label or its first lines."""
    if text[:5] == b"data:" or text[:6] == b"event:" or _LABEL.search(content_type) is not None:
        return True
    if 10 not in text or (123 not in text and 91 not in text):
        return False
    return _JSON_FIRST.match(text) is not None or _JSON_LINE.search(text) is not None


def sequence_edits(record: Record, text: bytes, alarms: list[Alarm], depth: int, base: str) -> list[Edit]:
    edits: list[Edit] = []
    payloads: list[tuple[int, int, bool]] = []
    if alarms or record.cut or _PLAIN_DATA.search(text) is not None:
        record.spend(text.count(b"\n") // 4)
        payloads = _payloads(text)
    places = Places(alarms)
    spans: list[tuple[int, int]] = []
    named = False
    if alarms or record.cut:
        number = 0
        for start, end, folded in payloads[:_PAYLOADS_MAX]:
            while number < len(alarms) and alarms[number].start < start:
                number += 1
            here = number < len(alarms) and alarms[number].start < end
            if named:
                edits += _next_value(record, text, start, end)
            named = False
            if not here and not (record.cut and end == len(text)):
                continue
            record.spend(5)
            payload = text[start:end]
            layer = Layer(payload, _FOLDED, record) if folded else None
            plain = payload if layer is None else layer.plain
            found_at = record.alarms(plain) if layer is not None else places.of(start, end)
            if plain[:1] in (b"{", b"["):
                cut = record.cut and end == len(text)
                whole = cut or plain.rstrip()[-1:] in (b"}", b"]")
                found = json_edits(record, plain, found_at, depth, base, cut=cut) if whole else None
                named = any(record.names.is_field(m[1]) for m in _NAMED.finditer(plain)) and not _VALUED.search(plain)
            else:
                found = record.plain(plain, found_at, depth) if layer is not None else None
            if found is None:
                continue
            edits += placed(found, start, layer)
            spans.append((start, end))
        edits += record.plain(text, _outside(alarms, spans), depth)
    edits += _joined(record, text, payloads, depth)
    return edits


def _payloads(text: bytes) -> list[tuple[int, int, bool]]:
    """(start, end, whether it is folded over several data lines) of the payloads."""
    out: list[tuple[int, int, bool]] = []
    line_end = -2  # of the data line before
    for m in _DATA.finditer(text):
        start, end = m.span(2)
        end -= text[end - 1 : end] == b"\r"
        if m[1] and m.start() == line_end + 1 and text[start : start + 1] not in (b"{", b"["):
            out[-1] = out[-1][0], end, True
        else:
            out.append((start, end, False))
        line_end = m.end() if m[1] else -2
    return out


def _outside(alarms: list[Alarm], spans: list[tuple[int, int]]) -> list[Alarm]:
    out = []
    at = 0
    for alarm in alarms:
        while at < len(spans) and spans[at][1] <= alarm.start:
            at += 1
        if at == len(spans) or alarm.start < spans[at][0]:
            out.append(alarm)
    return out


def _next_value(record: Record, text: bytes, start: int, end: int) -> list[Edit]:
    m = _VALUED.search(text, start, end)
    if m is None:
        return []
    group = m.lastindex or 1
    return [record.mask(*m.span(group), m[group])] if group == 1 else [(*m.span(2), b'"' + MASK + b'"')]


def _joined(record: Record, text: bytes, payloads: list[tuple[int, int, bool]], depth: int) -> list[Edit]:
    """Edits of texts in pieces: the values of one key, the plain data of events."""
    edits: list[Edit] = []
    for key, number, joined in _pieces(text):
        if number > 1:
            record.spend(number // 4)
            if record.inner(record.undone(joined, JSON_STRING)[0], depth + 1):
                spans = [m.span(2) for m in _PIECE.finditer(text) if m[1] == key]
                edits += _of_pieces(record, text, spans, depth)
    plain = [(s, e) for s, e, folded in payloads if not folded and text[s : s + 1] not in (b"{", b"[")]
    if len(plain) > 1:
        record.spend(len(plain) // 4)
        edits += _of_pieces(record, text, plain, depth, escaped=False)
    return edits


def _pieces(text: bytes) -> list[tuple[bytes, int, bytes]]:
    """(key, number of its values, the values joined) of the keys of texts in pieces."""
    first = _PIECE.search(text)
    second = _PIECE.search(text, first.end()) if first is not None else None
    if first is None or second is None:
        return []
    # Most streams have the same bytes between all pieces: four times as fast.
    if first[1] == second[1] and (92 not in text or b'\\"' not in text):
        *parts, last = text[first.start(2) :].split(text[first.end(2) : second.start(2)])
        joined = b"".join(parts)
        if 34 not in joined and _PIECE.search(last) is None:
            return [(first[1], len(parts) + 1, joined + last.partition(b'"')[0])]
    by_key: dict[bytes, list[bytes]] = {}
    for key, piece in _PIECE.findall(text):
        by_key.setdefault(key, []).append(piece)
    return [(key, len(some), b"".join(some)) for key, some in by_key.items()]


def _of_pieces(
    record: Record, text: bytes, spans: list[tuple[int, int]], depth: int, *, escaped: bool = True
) -> list[Edit]:
    """Edits of the pieces of a joined text; a mask is put into the first piece that it removes bytes from."""
    raw = [text[s:e] for s, e in spans]
    undone = [record.undone(part, JSON_STRING) if escaped else (part, None) for part in raw]
    parts = [part for part, _ in undone]
    ends = list(accumulate(map(len, parts)))
    edits: list[Edit] = []
    for start, end, new in record.inner(b"".join(parts), depth + 1):
        k = bisect_left(ends, start + 1)
        while k < len(parts) and ends[k] - len(parts[k]) < end:
            begin = ends[k] - len(parts[k])
            edits += placed([(max(0, start - begin), min(end, ends[k]) - begin, new)], spans[k][0], undone[k][1])
            new = b""
            k += 1
    return edits
