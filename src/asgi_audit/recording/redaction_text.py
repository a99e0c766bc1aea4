"""Masks text that had a hit: what follows a sensitive name, to the end of its line or over the lines that it goes on.

Lines that are JSON documents of their own are masked as JSON, markup in its own module. What cannot be told apart is
not decided: the caller omits the body. Linear; at most `LINES_MAX` lines with something to mask.
"""

from __future__ import annotations

import re
from itertools import islice

import orjson

from .names import LOOSE, REDACTED, SENSITIVE, Names, card_spans
from .redaction_json import TooDense, redact_json
from .redaction_markup import is_markup, mask_markup
from .redaction_noted import hide, note
from .redaction_shapes import shapes
from .redaction_tables import TooWide, mask_list_items, mask_table
from .reflection import hidden_word

__all__ = ["LINES_MAX", "mask_lines", "mask_text"]

LINES_MAX = 300  # lines of a text with something to mask: beyond, the text is omitted and the thread freed
_MASK = REDACTED.encode()


def mask_text(text: bytes, names: Names, redacted: list[str], base: str, *, markup: bool = False) -> bytes | None:
    """Text (UTF-8) that had a hit, with what follows a sensitive name masked to the end of its line; None when that
    cannot be proven enough and the text must be omitted.

    Lines that are JSON documents of their own (NDJSON, server-sent events) are masked as JSON. markup: it is HTML or
    XML, whatever it begins with."""
    if markup or is_markup(text):
        masked_text = mask_markup(text, names, redacted, lambda part: mask_lines(part, names, redacted, base))
        if masked_text is not None and masked_text != text:
            note(redacted, base)
        return masked_text
    return mask_lines(text, names, redacted, base)


def mask_lines(text: bytes, names: Names, redacted: list[str], base: str) -> bytes | None:
    """`mask_text` of what is no markup."""
    names.look(len(text), 8)
    try:
        kept = mask_list_items(mask_table(text, names, redacted), names, redacted)
    except TooWide:
        return None
    if kept != text:
        note(redacted, base)
        text = kept
    first = text.lstrip()[:1]
    lines = text.split(b"\n")
    names.look(768 * len(lines))
    at_json = [k for k, line in enumerate(lines) if _json_begin(line) >= 0]
    if at_json and len(at_json) < len([line for line in lines if line.strip()]) // 2 and first in (b"{", b"["):
        return None  # one broken document over many lines: names and values may stand on different ones
    if len(at_json) > 10 * LINES_MAX:
        return None
    done = bytearray(len(lines))
    masked_json = 0
    for k in at_json:
        line = lines[k]
        if not names.hit(line):
            continue
        masked_json += 1
        if masked_json > LINES_MAX:
            return None
        begin = _json_begin(line)
        document = line[begin:].rstrip()
        try:
            orjson.loads(document)
            masked = redact_json(document, names, base, redacted)
        except (orjson.JSONDecodeError, TooDense):
            if begin == 0 and len(lines) == 1:
                return None
            masked = _MASK
            hide(redacted, document, names)
            note(redacted, base)
            for n in range(k + 1, len(lines)):  # it goes on (an event of several `data:` lines)
                if not lines[n].strip() or _json_begin(lines[n]) >= 0:
                    break
                lines[n] = _MASK
                done[n] = 1
        lines[k] = line[:begin] + masked
        done[k] = 1
    joined = b"\n".join(b"" if done[k] else line for k, line in enumerate(lines))
    hits = names.lines_hit(joined, LINES_MAX)
    if hits is None:
        return None
    for number, m in enumerate(_LABEL_LINE.finditer(joined)):
        if number >= LINES_MAX:
            return None
        if len(lines) > 1 and names.classify_bytes(m[1]) in (SENSITIVE, LOOSE):
            return None  # `key: password`, and `value:` on another line: which one cannot be told
    steps = told = 0
    for k in hits:
        if done[k]:
            continue
        note(redacted, base)
        indent = _indent(lines[k])
        kept, rest = _mask_line(lines[k], names)
        hidden_word(redacted, rest)
        lines[k] = kept
        quote = rest.lstrip()[:1]
        left_open = quote in (b'"', b"'") and (rest.count(quote) & 1 == 1 or rest.lstrip().startswith(3 * quote))
        follow = k
        while not (stripped := rest.strip(b" \t\r\"'")):
            # The value stands on the next line; which may be the name of another one.
            follow = next((n for n in range(follow + 1, len(lines)) if lines[n].strip()), -1)
            if follow < 0:
                break
            rest = _mask_line(lines[follow], names)[1] if names.suspicious(lines[follow]) else lines[follow]
            hidden_word(redacted, rest)
            lines[follow] = _MASK
            done[follow] = 1
            steps += 1
            if steps > LINES_MAX:
                return b"\n".join(lines[: follow + 1])  # empty lines without end: the rest goes
        opens = (
            left_open
            or stripped[:1] in (b"{", b"[", b"(", b"|", b">", b"<")
            or stripped[-1:] in (b"\\", b"{", b"[", b"(")
        )
        if opens or b"-----BEGIN" in rest:
            # A value that goes on over lines: where it ends cannot be told.
            return b"\n".join(lines[: max(k, follow) + 1])
        # YAML and folded headers: the value goes on in deeper lines, a list in lines with a dash.
        listed = follow > k
        for n in range(max(k, follow) + 1, len(lines)):
            line = lines[n]
            if line.strip():
                deeper = _indent(line) - indent
                if not (deeper > 0 or (listed and deeper == 0 and line.lstrip().startswith(b"-"))):
                    break
                if not done[n]:
                    told += 1
                    if told <= LINES_MAX:  # 4 µs each
                        hidden_word(redacted, line.strip(b" \t\r-"))
                    lines[n] = _MASK
                    done[n] = 1
    return b"\n".join(lines)


_LABEL_LINE = re.compile(
    rb"^[ \t-]*+(?i:key|name|field|id|type|label|param|parameter|header|property)[ \t]*+[:=][ \t]*+[\"']?([\w.-]{2,60})"
    rb"[\"']?[ \t\r,]*+$",
    re.M,
)


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip(b" \t"))


def _json_begin(line: bytes) -> int:
    """Where a JSON container begins on this line, after `data:` of an event; -1 when none does."""
    stripped = line.lstrip()
    at = len(line) - len(stripped)
    if stripped.startswith(b"data:"):
        rest = stripped[5:].lstrip()
        at = len(line) - len(rest)
        stripped = rest
    return at if stripped[:1] in (b"{", b"[") else -1


_TELLS = re.compile(rb"\b(?i:is|was|are|ist|lautet|est)[ \t\r]*+\Z")
_CLAUSE = re.compile(rb"[^:=>]*+(?:[:=>]|\Z)")


def _mask_line(line: bytes, names: Names) -> tuple[bytes, bytes]:
    """The line with everything after the first sensitive name's separator masked, and what was masked."""
    names.look(len(line), 3)
    if _TELLS.search(line):
        return line, b""
    starts = [start for start, _ in (*islice(shapes(line), 1), *card_spans(line, 1))]
    starts += [start for _, start in islice(names.said_in(line), 1)]
    limit = min(starts, default=len(line))
    if len(line) <= 2048:
        for m in _CLAUSE.finditer(line):
            if m.end() > limit:
                break
            if names.names_value(m[0]):
                rest = line[m.end() :]
                lead = len(rest) - len(rest.lstrip(b" \"'"))
                return line[: m.end() + lead] + _MASK, rest
        if starts:
            return line[:limit] + _MASK, line[limit:]
    return _MASK, line
