"""The grammar of HTML and XML, tag by tag. The name of a secret and its value may be in two attributes in any order, in
two elements, in two cells of a row, or on two lines.

When an attribute of a tag names a sensitive field, the values of its other attributes (except harmless ones) and the
text of its element are masked. In an element with a sensitive name the text is masked, and tags stay. After a text that
is a sensitive name, the next text is masked: always in `<key>`, `<dt>` or a cell, elsewhere when it looks like a
secret. Other text and attributes are judged as separate documents. When a document is cut inside a tag, the values in
that tag are masked.
"""

from __future__ import annotations

import re

from .alarms import FORM, Alarm, Places
from .budget import MISS
from .forms import made
from .layers import ENTITIES, Edit, placed
from .names import MANY, NO, YES
from .record import Record, TooCostly

__all__ = ["in_tag", "markup_edits"]

_TAGS_MAX = 8_000
_ATTRIBUTES = rb"[^<>\"']*+(?:(?:\"[^\"]{0,8000}+\"|'[^']{0,8000}+')[^<>\"']*+)*"
_TAG = re.compile(
    rb"<!--()|<!\[CDATA\[()|<(/?)([A-Za-z_][\w:.-]*+)(" + _ATTRIBUTES + rb")(>?)|<[!?]" + _ATTRIBUTES + rb">?", re.S
)
_NEXT_TAG = re.compile(rb"<[/A-Za-z!?]")
_ATTRIBUTE = re.compile(rb"(?<![\w:.@-])([A-Za-z_:@][\w:.-]*+)\s*=\s*(?:\"([^\"]*+)\"?|'([^']*+)'?|([^\s\"'>]+))")
_NAMING = frozenset(
    b"name key property k n field itemprop http-equiv param data-k data-key data-name data-field ng-model v-model"
    b"".split()
)
_HARMLESS = _NAMING | frozenset(
    b"id type for autocomplete label aria-label placeholder title class style required minlength maxlength size"
    b" method rel tabindex lang role aria-describedby aria-labelledby autofocus disabled readonly xmlns charset href"
    b" src action pattern inputmode onclick onchange data-toggle data-target in schema ref min max step"
    b" minoccurs maxoccurs use nillable base".split()
)  # fmt: skip
_NO_CONTENT = frozenset(b"a form label button fieldset iframe section nav h1 h2 h3 h4 h5 h6 html body".split())
_VOID = frozenset(b"input meta link img br hr wbr col area base embed source track".split())
_FIELDS = frozenset(b"input textarea select option field param".split())
_LABEL = re.compile(rb"<label\b[^<>]*?\sfor\s*=\s*[\"']?([^\s\"'<>]+)[^<>]*>\s*\Z", re.I)
_INPUT = re.compile(rb"<input\b(" + _ATTRIBUTES + rb")", re.I)
_TITLES = frozenset((b"placeholder", b"aria-label"))
_SURE = frozenset(b"key name k n dt td th param property".split())
_VALUES = frozenset(b"value v val string data content".split())
_ITEMS = frozenset((b"li", b"code", b"span", b"b"))
_SPACERS = frozenset(b"br hr wbr img col span b i em strong code tbody tr p dd td label input".split())
# In place of a value: `<dt>password</dt><dd>The password of the user.</dd>`.
_SENTENCE = re.compile(rb"[A-Z][a-z]*(?:,? (?:[a-z]+|[A-Z][a-z]+|[0-9]{1,3})){2,40}\.")
_SIGNS = frozenset((b":", b"=", b"-", b"|", b"\xe2\x80\x93", b"\xe2\x86\x92", b"&nbsp;", b"&#160;", b"\xc2\xa0"))
_NEAR = 400
_MARK_FIRST = re.compile(rb"[^\s<]{5}")
_NEXT_WORD = re.compile(rb"(?:[\s\"'`]{1,40}|[:=][ ]?)([^\s<>\"'`./]{6,400})(?=[\s<>\"'`]|\Z)")
_NO_VALUE = frozenset((b"", *(bytes((c,)) for c in b"@\"'`/:,;.)]} \t\r\n")))
_SAYING = (b" is", b" are", b" ist", b" lautet", b" est", b" es", b" \xc3\xa8", b" \xc3\xa9")  # before `<b>x</b>`
_STOPS_PENDING = frozenset(b"form a select ul ol body head nav button table footer".split())


def in_tag(record: Record, text: bytes, start: int, end: int) -> bool:
    """Whether a name is inside a tag, or is the name of one."""
    if text[start - 1 : start] == b"<":
        return not (text[end : end + 1] == b">" and _is_placeholder(record, text, text[start:end], end + 1))
    opened = text.rfind(b"<", max(0, start - 400), start)
    return opened >= 0 and text[opened + 1 : opened + 2].isalpha() and text.find(b">", opened, start) < 0


def _is_placeholder(record: Record, text: bytes, tag: bytes, at: int) -> bool:
    """Whether nothing closes the tag that ends at `at`, and no value follows: `login <user> <password>`."""
    word = _NEXT_WORD.match(text, at)
    if word is not None and (made(word[1]) or any(48 <= c <= 57 for c in word[1])):
        return False
    if record.cut or text[at : at + 1] not in _NO_VALUE:
        return False
    before = text[at - len(tag) - 3 : at - len(tag) - 2]
    if (before.isalnum() or before in (b"\n", b">")) and _MARK_FIRST.match(text, at):
        return False  # `<USERPASS>@tulip`, of OFX, which closes no element
    record.spend(4 + ((len(text) - at) >> 9))
    return text[at:].lower().find(b"</" + tag.lower()) < 0


def markup_edits(record: Record, text: bytes, alarms: list[Alarm], depth: int) -> list[Edit]:
    reader = _Markup(record, text, alarms, depth)
    reader.read()
    return reader.edits


class _Markup:
    def __init__(self, record: Record, text: bytes, alarms: list[Alarm], depth: int) -> None:
        self.record = record
        self.text = text
        self.depth = depth
        self.alarms = Places(alarms)
        self.forms = Places([alarm for alarm in alarms if alarm.what == FORM])
        self.edits: list[Edit] = []
        self.closes = b"</" in text  # some element is closed
        self.until = b""  # everything to the end of this element is masked
        self.nesting = 0
        self.named_before = False  # `until` is an element beside the one that is the name
        self.pending = 0  # 1: the next text may be a value, 2: it is one
        self.tag = b""  # the last opened
        self.cell = -1  # its number in the row
        self.headers: list[int] = []  # sensitive cells of a header row
        self.columns: frozenset[int] = frozenset()
        self.header_row = True
        self.has_header = False  # the table began with a row of headers
        self.value: tuple[int, int] | None = None  # of the last element that holds a value
        self.coded = False  # the list below `Recovery codes`
        self.labelled: set[bytes] = set()  # ids of fields whose label is a sensitive name

    def alarmed(self, start: int, end: int) -> bool:
        return self.alarms.within(start, end)

    def mask(self, start: int, end: int) -> None:
        value = self.text[start:end]
        kept = value.strip()
        if kept and not self.record.is_holder(kept):
            begin = start + len(value) - len(value.lstrip())
            self.edits.append(self.record.mask(begin, begin + len(kept), self.record.undone(kept, ENTITIES)[0]))

    def read(self) -> None:
        text = self.text
        at = number = 0
        while (m := _TAG.search(text, at)) is not None:
            number += 1
            if number > _TAGS_MAX:
                raise TooCostly
            if number & 7 == 0:
                self.record.spend(8)
            if m.start() > at:
                self.node(at, m.start())
            at = m.end()
            if m[1] is not None or m[2] is not None:
                mark = b"-->" if m[1] is not None else b"]]>"
                stop = text.find(mark, at)
                stop = stop if stop >= 0 else len(text)
                if stop > at:
                    self.node(at, stop, raw=True, comment=m[1] is not None)
                at = stop + 3
            elif m[4] is None:
                if self.alarmed(m.start(), at):
                    self.inner(m.start(), at, raw=True)
            elif m[3]:
                self.closed(m[4].rpartition(b":")[2].lower())
                if self.alarmed(m.start(5), m.end(5)):
                    self.inner(m.start(5), m.end(5), raw=True)
            else:
                closed_tag = bool(m[6])
                if not closed_tag and at < len(text) and text[at] != 60:
                    at = self.broken(m, at)
                else:
                    self.opened(m, open_end=not closed_tag)
                if self.tag in (b"script", b"style") and text[at - 2 : at] != b"/>":
                    stop = text.lower().find(b"</" + self.tag, at) if number < 400 else text.find(b"</" + self.tag, at)
                    stop = stop if stop >= 0 else len(text)
                    if stop > at and self.alarmed(at, stop):
                        self.inner(at, stop, raw=True)
                    at = stop
        if at < len(text):
            self.node(at, len(text))
        if self.labelled:
            self.fields_of_labels()

    def broken(self, m: re.Match[bytes], at: int) -> int:
        """A quote that is never closed: what follows to the next bracket belongs to the tag, as far as can be told."""
        text = self.text
        stop = _NEXT_TAG.search(text, at)
        limit = stop.start() if stop is not None else len(text)
        end = text.find(b">", at, limit)
        end = end if end >= 0 else limit
        start = m.start(5)
        self.tag = m[4].rpartition(b":")[2].lower()
        if self.alarmed(m.start(), end + 1) or end == len(text):
            self.attributes(start, min(end, start + 8_000), open_end=True)
        return end + (text[end : end + 1] == b">")

    # Tags

    def closed(self, tag: bytes) -> None:
        if self.until and tag == self.until:
            if self.nesting:
                self.nesting -= 1
            else:
                self.until = b""
        if tag == b"tr":
            if self.header_row and self.headers:
                self.columns = frozenset(self.headers)
            self.has_header = self.has_header or (self.header_row and self.cell > 0)
            self.pending = 0
        elif tag == b"table":
            self.columns, self.has_header = frozenset(), False
        elif tag in (b"ul", b"ol", b"form", b"dl"):
            self.pending, self.coded = 0, False
        self.tag = b"/" + tag

    def opened(self, m: re.Match[bytes], *, open_end: bool) -> None:
        name = m[4].rpartition(b":")[2]
        tag = self.tag = name.lower()
        if 61 not in m[5] and m[5].strip(b" /"):
            name = m[4] + m[5].rstrip(b"/")  # <API KEY>
            if not self.closes and len(m[5]) <= 60 and b'"' not in m[5]:
                return  # `<your api key>`
        # `<col name="password">x</col>` is no HTML.
        alone = m[5][-1:] == b"/" or (tag in _VOID and self.text.find(b"</" + m[4], m.end(), m.end() + _NEAR) < 0)
        if tag == b"tr":
            self.cell, self.headers, self.header_row, self.pending = -1, [], True, 0
        elif tag in (b"td", b"th"):
            self.cell += 1
            self.header_row = self.header_row and tag == b"th"
            if tag == b"th":  # of another column
                self.pending = 0
        elif tag in _STOPS_PENDING:
            self.coded = self.coded and bool(self.pending) and tag in (b"ul", b"ol")
            self.pending = 0
        if self.until:
            if tag == self.until and not alone:
                self.nesting += 1
            self.attributes(m.start(5), m.end(5), all_of_them=True)
            return
        sensitive = False
        if self.pending == 2 and not alone and tag not in (b"th", b"label", b"tr", b"tbody", b"dl"):
            self.until, self.nesting, self.pending, self.named_before = tag, 0, 0, True
            self.attributes(m.start(5), m.end(5), all_of_them=True)
            return
        if open_end or self.pending or self.alarmed(m.start(), m.end()):
            sensitive = self.attributes(m.start(5), m.end(5), open_end=open_end)
        if (
            not alone
            and tag not in _NO_CONTENT
            and (sensitive or (self.alarmed(m.start(), m.end()) and self.record.names.kind(name) in (YES, MANY)))
            and not (not m[5].strip() and _is_placeholder(self.record, self.text, m[4], m.end()))
        ):
            self.until, self.nesting, self.pending, self.named_before = tag, 0, 0, False
        elif alone and tag not in _SPACERS:
            self.pending = 0

    def attributes(self, start: int, end: int, *, all_of_them: bool = False, open_end: bool = False) -> bool:
        """Masks values of attributes; returns whether the element's content is the value of a sensitive name."""
        names = self.record.names
        found = []
        sensitive = content = False
        outside = False  # an alarm is in no attribute
        done = start
        for m in _ATTRIBUTE.finditer(self.text, start, end):
            outside = outside or self.alarmed(done, m.start())
            done = m.end()
            group = m.lastindex or 4
            name = m[1].lower()
            value = m[group]
            found.append((name, m[1], m.span(group)))
            if name in _NAMING or (name == b"id" and self.tag in _FIELDS):
                misses = names.misses
                is_field = names.is_field(self.record.undone(value, ENTITIES)[0])
                self.record.spend(4 + MISS * (names.misses - misses))  # thousands of them in one tag
                if is_field:
                    sensitive = True
                    content = content or name != b"id"
            elif (name == b"type" and value.lower() == b"password") or (
                name in _TITLES and self.tag in _FIELDS and names.is_field(value)
            ):
                sensitive = True
        if outside or self.alarmed(done, end):  # `<a,b` begins no tag, and CSV does so
            self.inner(start, end, raw=True)
        if self.pending and self.tag == b"input":
            sensitive = True
        for name, spelled, span in found:
            if span[0] == span[1]:
                continue
            local = name.rpartition(b":")[2]
            if name not in _HARMLESS and not name.startswith(b"xmlns") and (
                sensitive or all_of_them
                or names.kind((local if local != name else spelled).removeprefix(b"data-")) == YES
                or (open_end and local in _VALUES)
            ):  # fmt: skip
                self.mask(*span)
            elif self.alarmed(*span) and name not in (b"name", b"id", b"for", b"type", b"class"):
                self.inner(*span)
        return content

    def fields_of_labels(self) -> None:
        """`<label for=x>Password</label> … <input id=x value=…>`, in any order."""
        for m in _INPUT.finditer(self.text):
            self.record.spend(1)
            spans = {a[1].lower(): a.span(a.lastindex or 4) for a in _ATTRIBUTE.finditer(self.text, *m.span(1))}
            start, end = spans.get(b"id", (0, 0))
            if b"value" in spans and self.text[start:end] in self.labelled:
                self.mask(*spans[b"value"])

    # Text

    def node(self, start: int, end: int, *, raw: bool = False, comment: bool = False) -> None:
        text = self.text[start:end]
        if not text.strip():
            return
        if self.until and self.named_before and text.strip() in _SIGNS:  # a cell between the name and its value
            self.until, self.pending = b"", 2
            return
        if self.until and not comment:
            if not self.named_before or not _SENTENCE.fullmatch(text.strip()):
                self.mask(start, end)
            return
        if self.cell in self.columns and self.tag == b"td":
            self.mask(start, end)
            return
        alarmed = self.alarmed(start, end)
        if self.pending and text.strip() in _SIGNS:  # `<b>Password</b>: <i>x</i>`
            self.pending = 2
            return
        if self.pending and text.lstrip()[:1] in (b":", b"="):  # `<b>Password</b>: x`
            start += len(text) - len(text.lstrip()) + 1
            text, self.pending = self.text[start:end], 2
        pending, self.pending = self.pending, 0
        if pending and not comment and self.tag not in (b"label", b"button", b"a"):
            plain = text.strip()
            if _SENTENCE.fullmatch(plain):
                return
            another = alarmed and self.record.names.is_name(plain.rstrip(b" :=*"))
            digit = any(48 <= c <= 57 for c in plain)
            if not another and (
                pending == 2
                or (self.record.cut and end == len(self.text))
                or made(plain)
                or (digit and len(plain) > 5 and b" " not in plain)
            ):
                self.mask(start, end)
                return
        opened = self.tag.lstrip(b"/")
        if self.coded and opened in _ITEMS and b" " not in text.strip() and len(text.strip()) > 5:
            self.mask(start, end)
            return
        if opened in _VALUES and self.tag == opened:
            self.value = start, end
        if self.record.cut and end == len(self.text) and opened in (b"name", b"key") and self.value is not None:
            self.mask(*self.value)  # the name was cut
        if not alarmed:
            return
        if self.forms.within(start, end):
            known = len(self.edits)
            self.inner(start, end, raw=raw)
            if len(self.edits) == known:  # what its tag tells
                for form in self.forms.of(start, end):
                    self.mask(start + form.start, min(start + form.end, end))
            return
        plain = self.record.undone(text, ENTITIES)[0].strip()
        word = plain.rstrip(b" :=*\t\r\n")
        if len(word) <= 60 and self.record.names.is_field(word):
            self.named(opened, plain, start)
            return
        if len(plain) < 200 and plain[-1:] in b":=" and self.tells(word):
            self.pending = 2
            return
        if len(plain) < 200 and plain.endswith(_SAYING) and self.tells(plain[: plain.rfind(b" ")]):
            self.pending = 1
            return
        self.inner(start, end, raw=raw)

    def tells(self, words: bytes) -> bool:
        """`Your password:` before the element with the value."""
        last = words.split()[-2:]
        return (
            not any(58 in word or 61 in word for word in last)
            and bool(last)
            and (self.record.names.kind(last[-1]) == YES or self.record.names.is_field(b" ".join(last)))
        )

    def named(self, opened: bytes, plain: bytes, start: int) -> None:
        """A text that is a sensitive name."""
        if opened == b"label" and (label := _LABEL.search(self.text, max(0, start - _NEAR), start)) is not None:
            self.labelled.add(label[1])
        if opened == b"th":
            self.headers.append(self.cell)
        if self.tag == opened or plain[-1:] in b":=":
            if self.has_header and opened == b"td":
                return
            sure = opened in _SURE or plain[-1:] in b":=" or (self.cell >= 0 and not self.header_row)
            if opened in (b"name", b"key") and self.value is not None:
                self.mask(*self.value)
            self.pending = 2 if sure else 1
            self.coded = plain.lower().rstrip(b":").endswith(b"codes")
        self.value = None

    def inner(self, start: int, end: int, *, raw: bool = False) -> None:
        text = self.text[start:end]
        if raw:
            self.edits += placed(self.record.inner(text, self.depth + 1), start)
            return
        self.edits += self.record.escaped_value(text, start, ENTITIES, NO, self.depth)
