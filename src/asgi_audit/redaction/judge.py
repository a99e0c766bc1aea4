"""Chooses the grammar for a text, and limits the depth of texts inside texts."""

from __future__ import annotations

import re

import orjson

from .alarms import BASE64, FORM, NAME, Alarm
from .json_document import json_edits, may_need_partner
from .layers import PERCENT, Edit, base64_text, placed, splice
from .markup import in_tag, markup_edits
from .multipart import part_edits
from .pairs import pairs_edits
from .record import DEPTH_MAX, Record
from .scan import NotText, is_text
from .sequences import is_sequence, sequence_edits
from .text import text_edits

__all__ = ["Judge"]

_SHORTEST = 5
_PAIRS = re.compile(rb"[^\s\"'{}<>]+")
_MARKUP = re.compile(rb"\s*<[A-Za-z!?/]")
_TAIL = 200


class Judge(Record):
    __slots__ = ()

    def inner(self, plain: bytes, depth: int, alarms: list[Alarm] | None = None) -> list[Edit]:
        """Edits of a decoded text that may be a document of its own: JSON, markup, pairs, base64, escapes, text."""
        if len(plain) < _SHORTEST or (len(plain) < self.scan.form_min and plain.isalpha() and not self.cut):
            return []
        self.spend(6 + len(plain) // 64)
        if alarms is None:
            alarms = self.alarms(plain)
        if not alarms and 37 in plain:  # `API%20KEY`
            text, layer = self.undone(plain, PERCENT)
            if text != plain and self.alarms(text):
                return placed(self.inner(text, depth + 1), 0, layer)
        first = plain[:20].lstrip()[:1]
        if not alarms and not (self.cut and first in (b"{", b"[") and may_need_partner(plain)):
            return []
        if depth > DEPTH_MAX:
            return [self.mask(0, len(plain), plain)]
        if first in (b"{", b"["):
            valid = _is_json(plain)
            found = json_edits(self, plain, alarms, depth, "", cut=not valid) if valid or self.cut else None
            if found is not None:
                return found
        if any(alarm.what == BASE64 for alarm in alarms):
            decoded = base64_text(plain)
            if decoded is not None and self.inner(decoded, depth + 1):
                return [self.mask(0, len(plain), plain)]
        if first == b"<" and _MARKUP.match(plain):
            return markup_edits(self, plain, alarms, depth)
        if 61 in plain and _PAIRS.fullmatch(plain) and (38 in plain or 63 in plain or plain.count(b"=") == 1):
            found = pairs_edits(self, plain, depth, url=True, alarms=alarms)
            found += [self.mask(a.start, a.end, plain[a.start : a.end]) for a in alarms if a.what == FORM]
            if found:
                return found
        if 10 in plain and is_sequence(plain, b""):
            return sequence_edits(self, plain, alarms, depth, "")
        return self.plain(plain, alarms, depth)

    def plain(self, text: bytes, alarms: list[Alarm], depth: int) -> list[Edit]:
        parts = part_edits(self, text, alarms, depth)
        marked = self.cut or b"</" in text or 61 in text  # `<your api key>` alone is no markup
        if marked and any(alarm.what == NAME and in_tag(self, text, alarm.start, alarm.end) for alarm in alarms):
            return parts + markup_edits(self, text, alarms, depth)
        return parts + text_edits(self, text, alarms, depth)

    def document(self, data: bytes, content_type: bytes, base: str, *, cut: bool = False, valid: bool = False) -> bytes:
        """A whole body (UTF-8), masked. content_type: in lower case. valid: it is JSON. Raises TooCostly, NotText."""
        self.left += len(data) >> 6  # the scan is linear, whatever an operator lets through
        self.cut = cut
        self.tail = data[-_TAIL:] if cut else b""
        self.labels = base.startswith("response.")
        if not valid and content_type.find(b"x-www-form-urlencoded") >= 0:
            if not is_text(data):
                raise NotText
            edits: list[Edit] | None = pairs_edits(self, data, 0, base)
        else:
            alarms = self.scan.alarms(data, self, cut=cut, text=not valid)
            if valid and not alarms:
                return data
            edits = json_edits(self, data, alarms, 0, base) if valid else None
            if edits is None:
                edits = self.unchecked(data, alarms, content_type, base)
        if not edits:
            return data
        if not self.redacted or not valid:
            self.note(base)
        return splice(data, edits)

    def unchecked(self, data: bytes, alarms: list[Alarm], content_type: bytes, base: str) -> list[Edit]:
        """Edits of a whole body that is no valid JSON, or not known to be."""
        cut = self.cut
        if alarms and b"css" in content_type:  # `.token:hover` is a selector
            alarms = [a for a in alarms if a.what != NAME or data[a.start - 1 : a.start] not in (b".", b"#")]
        if is_sequence(data, content_type) and not (
            cut and b"json" in content_type and b"ndjson" not in content_type and b"jsonl" not in content_type
        ):
            return sequence_edits(self, data, alarms, 0, base)
        if not alarms and not cut:
            return []
        first = data.lstrip(b"\xef\xbb\xbf \t\r\n\x1e")[:1]
        if first in (b"{", b"[") and cut:
            if not alarms and not may_need_partner(data):
                return []
            edits = json_edits(self, data, alarms, 0, base, cut=True)
            if edits is not None:
                return edits
        if not alarms and first != b"<":
            return []
        marked = _MARKUP.match(data) or b"html" in content_type or b"xml" in content_type
        return markup_edits(self, data, alarms, 0) if marked else self.plain(data, alarms, 0)


def _is_json(plain: bytes) -> bool:
    try:
        orjson.loads(plain)
    except orjson.JSONDecodeError:
        return False
    return True
