"""The grammar of text: `name: value` of every kind, sentences, commands, SQL; lists and blocks stand in `lines`.

Each alarm is asked once, in order: what stands after the name tells whether a value follows, and the value consumes
what it takes, to its closing quote or bracket, to the next pair, to the end of the line, or over the deeper lines
below. So no byte is looked at twice by the grammar. Words of a harmless kind, types (`token: str`) and placeholders end
an alarm.
"""

from __future__ import annotations

import re
from base64 import b64decode

from .forms import made
from .grid import grid_edits
from .layers import Edit, entities, percent, unicode_escapes
from .lines import block_end, block_is_described, label_edits
from .names import CODE, COUNT, MADE, MANY, NO, TEXT, YES
from .record import CANDIDATE, MASK, Record, TooCostly, is_holder_in_prose
from .scan import BASE64, CODE_KEY, COMMAND, ESCAPE, FORM, NAME, Alarm

__all__ = ["base64_text", "text_edits"]

_CANDIDATES_MAX = 1_000
_VALUE_MAX = 8_000
_LINE_SEEN = 400
_SEARCHED = 5  # 32 bytes of a search for the end of a value are one step

_ASSIGN = re.compile(
    rb"(?:\\{0,3}[\"'`\])*}]|[ ]?\?|\x1b\[[0-9;]{0,12}m){0,6}[ \t]{0,40}"
    rb"(:=|=>|->|===?|=|:(?!//)|\xef\xbc[\x9a\x9d])(?:[ \t]*\x1b\[[0-9;]{0,12}m){0,3}[ \t]*"
)
_SAYS = re.compile(
    rb"[\"'`*)]{0,3}[ \t\r\n]{1,3}(?i:is|was|are|ist|lautet|est|to|\xe2\x80[\x93\x94])(:?)[ \t\r\n]{1,4}[\"'`(*]{0,3}"
)
_QUOTED = re.compile(
    rb"(?:\\{0,3}[\"'`]?[ \t]{1,3}(?:(?i:like|in|as|to|by)[ \t]{0,3}|!=[ \t]{0,3}|<>[ \t]{0,3})?\(?|\()[ \t]{0,3}"
    rb"\\{0,3}([\"'])"
)
_FLAG_VALUE = re.compile(rb"[ \t]+(?:\"([^\"\n]{1,400})\"|'([^'\n]{1,400})'|([^\s\"'-][^\s\"']{0,800}))")
_PAIRED = re.compile(rb"\\{0,3}[\"'][ \t]{0,3},[ \t\r\n]{0,4}\\{0,3}([\"'])")
# In broken JSON: `"loc": ["body", "password"], "input": "x"`.
_LABELLED = re.compile(
    rb"\\{0,3}[\"'][ \t]{0,3}[\]},][^\n]{0,200}?"
    rb"[\"'](?i:value|input|default|content|data|val|old|new)\\{0,3}[\"'][ \t]{0,3}:[ \t]{0,3}"
)
_BLANK = re.compile(rb"[ \t]{1,8}(?=[^\s:=])")
_IDENTIFIER = re.compile(rb"[a-z][a-z_ ]*")
# What begins another pair, or ends the context of this one.
_STOP = re.compile(
    rb"[;,&|]?[ \t]{1,3}[A-Za-z_][\w.-]{0,40}=(?!=)[^\s]|;[ \t]{0,3}[A-Za-z][\w ]{0,30}=|&[A-Za-z_][\w\[\].]{0,40}="
    rb"|,[ \t]{0,3}\\{0,3}[\"']?[A-Za-z_][\w.-]{0,40}\\{0,3}[\"']?[ \t]{0,2}[:=](?!/)|<(?=[/A-Za-z!])"
    rb"|\\{0,3}\"[ ]?[,}\]]|'[ \t]+(?:WHERE|AND|http)|\x1b\["
)
_TYPE = re.compile(
    rb"(?:str|int|string|bool|boolean|list|dict|tuple|set|bytes|Optional|Union|number|any|object|null|None|true|false|unknown|void"
    rb"|uuid|UUID|SecretStr|String|ID|Int|text|TEXT|VARCHAR|varchar)(?![\w-])"
    rb"(?:\[[^\]\n]{0,80}\]|<[^>\n]{0,80}>|\([0-9, ]{0,20}\))?!?[ \t\r]*"
    rb"(?:[,)=|;}\]?&\n#]|->|NOT NULL|\Z)"
)
_BARE = re.compile(rb"(-?[0-9][0-9.eE+-]*|true|false|null|[A-Za-z0-9_.-]{1,200})[ \t]*(?=[}\]])")
# What YAML puts before a value: `!!str x`, `!Sub x`, `&anchor x`; `!vault |`. `!Zq7Hunter2` is a value.
_PROPERTY = re.compile(
    rb"(?:!|!{1,2}[A-Za-z][A-Za-z/.:-]{0,40}|&[A-Za-z_][A-Za-z_-]{0,30}[0-9]{0,2})"
    rb"(?:[ \t]+(?:[|>][0-9+-]{0,2}[ \t\r]*\Z)?|\r?\Z)"
)
_SCALAR_WORD = re.compile(rb"[\"'`]?([^\s\"'`,;&}\])]{0,400})")
_WORDS = re.compile(rb"[^\s\"'<>`]+")
_DATED = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}:[0-9]{2}|v?[0-9]+\.[0-9]+")
_CALL = re.compile(
    rb"[A-Za-z_][\w.]{0,60}\(|(?:os\.environ|process\.env|request|self|this|config|settings|env)\b[.\[]"
    rb"|await |new |function|async |\(\) ?=>|lambda "
)
_CODE_LINE = re.compile(
    rb"[ \t]*(?:if|elif|while|for|def|class|with|async|case|switch|function|return|else|match)\b|[^\n]{0,200}(?:->|\()"
)
# Of a GraphQL query in broken JSON.
_VARIABLES = re.compile(rb"variables\\{0,3}[\"'][ \t]{0,3}:[ \t\r\n]{0,3}\{")
# What separates a name from its value, escaped: `access_token%3Dx`, `password&quot;:`.
_ESCAPED_SIGN = re.compile(rb"%(?:25){0,3}(?:3[aAdD]|22|20|5[dD])|&(?:#|quot;|apos;)|\\{1,4}u00(?:3[aAdD]|22)")
_REFERENCE = re.compile(rb"(?:[A-Za-z_]\w{0,40}\.){0,4}([A-Za-z_]{2,60});?")
_IN_QUERY = re.compile(rb"[^&#\s<>\"'`]*")
_BRACKETS = re.compile(rb"\"[^\"\\\n]*+(?:\\.[^\"\\\n]*+)*\"?|[{}\[\]()]")
_INSERT = re.compile(
    rb"(?i:insert)[ \t\r\n]{1,9}(?i:into)[ \t\r\n]{1,9}[^\s(]{1,100}[ \t\r\n]{0,9}"
    rb"\(([^()]{1,2000})\)[ \t\r\n]{0,9}(?i:values)[ \t\r\n]{0,9}"
)
_TUPLE_VALUE = re.compile(rb"[ \t\r\n]{0,40}(?:'([^']*+(?:''[^']*+)*)'(?!')|([^,()']{1,400}))[ \t\r\n]{0,40}([,)]?)")
_TUPLE_NEXT = re.compile(rb"[ \t\r\n]{0,40},?[ \t\r\n]{0,40}\(")
_COMMAND = {
    b"curl": rb"[^\n]{0,400}?[ \t](?:-u[ \t]?|--user[ =]|--proxy-user[ =])[\"']?[^\s:\"']{1,100}:([^\s\"']{1,200})",
    b"sshp": rb"ass[ \t]+-p[ \t]?[\"']?([^\s\"']{1,200})",
    b"mysq": rb"[^\n]{0,300}?[ \t]-p[\"']?([^\s\"'-][^\s\"']{0,200})",
    b"dock": rb"[^\n]{0,300}?[ \t](?:-p|--password)[ =]?[\"']?([^\s\"'-][^\s\"']{0,200})",
    b"redi": rb"[^\n]{0,300}?[ \t]-a[ ]?[\"']?([^\s\"'-][^\s\"']{0,200})",
    b"iden": rb"tified[ \t]{1,3}(?:with[ \t]{1,3}[\"']?\w{1,40}[\"']?[ \t]{1,3})?(?:by|as)[ \t]{1,3}"
    rb"(?:password[ \t]{1,3})?[\"']([^\"'\n]{1,300})",
    b"ldap": rb"[^\n]{0,300}?[ \t]-w[ ]?[\"']?([^\s\"'-][^\s\"']{0,200})",
    b"smbc": rb"[^\n]{0,300}?[ \t]-U[ ]?[\"']?[^\s%\"']{1,60}%([^\s\"']{1,200})",
}  # fmt: skip
_COMMAND.update(
    {b"wget": _COMMAND[b"curl"], b"podm": _COMMAND[b"dock"], b"helm": _COMMAND[b"dock"], b"mong": _COMMAND[b"dock"]}
)
_COMMANDS = {head: re.compile(tail, re.I).match for head, tail in _COMMAND.items()}
_COMMANDS_MAX = 60
_RUN = re.compile(rb"[^\s\"'<>]{1,4000}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_OAUTH_BESIDE = re.compile(rb"[?&;](?:state|session_state|iss|scope|client_id|redirect_uri|grant_type)=")


def base64_text(word: bytes) -> bytes | None:
    """What a word is in base64, when that is printable text; None."""
    word = word.strip()
    if not 16 <= len(word) <= 100_000 or _BASE64.fullmatch(word) is None:
        return None
    try:
        plain = b64decode(word.rstrip(b"=") + b"==", altchars=b"-_" if b"-" in word or b"_" in word else None)
        text = plain.decode()
    except ValueError:
        return None
    return (
        plain
        if text.isprintable() or text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
        else None
    )


def text_edits(record: Record, text: bytes, alarms: list[Alarm], depth: int) -> list[Edit]:
    """Edits of a text, which is no document of another grammar."""
    if 13 in text and 10 not in text:
        text = text.replace(b"\r", b"\n")
    reader = _Text(record, text, depth)
    tables: list[tuple[int, int]] = []
    if 10 in text:
        found, tables = grid_edits(record, text, alarms)
        reader.edits += found
        for start, end, plain in label_edits(record, text, alarms):
            reader.add(start, end, plain)
    reader.read(alarms, tables)
    return reader.edits


class _Text:
    def __init__(self, record: Record, text: bytes, depth: int) -> None:
        self.record = record
        self.text = text
        self.depth = depth
        self.edits: list[Edit] = []
        self.begin = 0  # of the line that was looked at last
        self.end = -1
        self.commands = 0

    def add(self, start: int, end: int, plain: bytes | None = None) -> None:
        value = self.text[start:end]
        kept = value.strip()
        if kept and kept != MASK:
            lead = len(value) - len(value.lstrip())
            self.edits.append(
                self.record.mask(start + lead, start + lead + len(kept), kept if plain is None else plain)
            )

    def read(self, alarms: list[Alarm], tables: list[tuple[int, int]]) -> None:
        done = candidates = 0
        tables = [*tables, (len(self.text) + 1, 0)]
        table = 0
        inserts = (
            list(_INSERT.finditer(self.text))
            if any(a.what == NAME for a in alarms) and self.text.lower().find(b"insert") >= 0
            else []
        )
        for m in inserts[:200]:
            self.insert(m)
        for start, end, what, kind in alarms:
            if what == FORM:  # also where a name seems to stand in it
                self.add(start, end)
                done = max(done, end)
            if start < done:
                continue
            while tables[table][1] and tables[table][1] <= start:
                table += 1
            if what == NAME and tables[table][0] <= start:
                continue
            candidates += 1
            if candidates > _CANDIDATES_MAX:
                raise TooCostly
            self.record.spend(CANDIDATE)
            if what == NAME:
                done = max(end, self.name(start, end, kind))
            elif what == COMMAND:
                done = max(done, self.command(start))
            elif what == CODE_KEY:
                done = max(done, self.code(start, end))
            else:
                done = max(done, self.escaped(start, what))

    # What is no name

    def command(self, start: int) -> int:
        self.commands += 1
        match = _COMMANDS.get(self.text[start : start + 4].lower())
        if match is None or self.commands > _COMMANDS_MAX:
            return start
        m = match(self.text, start + 4)
        if m is None:
            return start
        self.add(*m.span(1))
        return m.end()

    def code(self, start: int, end: int) -> int:
        """`?code=x&state=y` in a URL in the text."""
        if self.text[end - 1] != 61 or self.text[start - 1 : start] not in (b"?", b"&", b";"):
            return start
        value = _IN_QUERY.match(self.text, end)
        assert value is not None
        begin = max(0, start - 1_000, self.text.rfind(b" ", 0, start) + 1)
        if value.end() - end >= 6 and (
            _OAUTH_BESIDE.search(self.text, value.end(), value.end() + 1_000)
            or _OAUTH_BESIDE.search(self.text, begin, start + 1)
        ):
            self.add(end, value.end())
        return value.end()

    def escaped(self, start: int, what: int) -> int:
        """A word with escapes in it, or one that may be base64: undone, and judged as a document of its own."""
        low = max(0, start - 300)
        left = low + self.text[low:start].translate(_WORD_ENDS).rfind(b" ") + 1
        run = _RUN.match(self.text, left)
        if run is None or run.end() <= start:
            return start
        word = run[0]
        if what == BASE64:
            begin = left
            for m in _BASE64.finditer(word):
                plain = base64_text(m[0])
                if plain is not None and self.record.inner(plain, self.depth + 1):
                    self.add(begin + m.start(), begin + m.end())
            return run.end()
        for mark, layered in ((37, percent), (92, unicode_escapes), (38, entities)):
            if mark in word:
                layer = self.record.charged(layered(word))
                if layer.plain != word:
                    # The value may stand behind the word: `pass%77ord: x`.
                    found = self.record.inner(layer.plain, self.depth + 1)
                    if found:
                        self.edits += layer.back(found, left)
                        return run.end()
                    kind = self.record.names.kind(layer.plain.strip(b"\"':=-*"))
                    if kind == YES:
                        stripped = word.rstrip(b"\"':=")
                        return max(run.end(), self.name(left, left + len(stripped), kind))
        return run.end()

    def insert(self, m: re.Match[bytes]) -> None:
        """The values under the sensitive columns of an INSERT."""
        columns = {
            k for k, name in enumerate(m[1].split(b",")) if self.record.names.kind(name.strip(b' \t\r\n`"[]')) == YES
        }
        at = m.end()
        while columns and (opened := _TUPLE_NEXT.match(self.text, at)) is not None:
            self.record.spend(CANDIDATE)
            at = opened.end()
            column = 0
            while (value := _TUPLE_VALUE.match(self.text, at)) is not None:
                if column in columns:
                    group = 1 if value[1] is not None else 2
                    if not is_holder_in_prose(value[group].strip()):
                        self.add(*value.span(group))
                column += 1
                at = value.end()
                if value[3] != b",":
                    break
            if at == opened.end():
                return

    # Names

    def line(self, at: int) -> None:
        """Sets the bounds of the line around `at`; on one long line each search would be quadratic."""
        if not self.begin <= at <= self.end:
            end = self.text.find(b"\n", at)
            self.begin = self.text.rfind(b"\n", 0, at) + 1
            self.end = end if end >= 0 else len(self.text)

    def name(self, start: int, end: int, kind: int) -> int:
        """A sensitive name in text: what follows tells whether a value does. Returns where to go on."""
        text = self.text
        if kind in (NO, CODE):
            return end
        self.line(start)
        first = start - self.begin < 200 and not text[self.begin : start].strip(b" \t-\"'*>#{[")
        if _ESCAPED_SIGN.match(text, end):
            return self.escaped(start, ESCAPE)
        assign = _ASSIGN.match(text, end)
        if assign is not None:
            return self.assigned(start, assign.end(), kind, assign[1], first)
        if kind != YES:
            return end
        says = _SAYS.match(text, end)
        if says is not None:
            return self.said(says, end)
        labelled = _LABELLED.match(text, end)
        if labelled is not None:
            return self.assigned(start, labelled.end(), kind, b":", False)
        paired = _PAIRED.match(text, end)
        if paired is not None:
            stop = self.closing(paired.end(), paired[1])
            value = text[paired.end() : stop]
            if stop < 0 or _IDENTIFIER.fullmatch(value) or self.record.names.is_field(value):
                return end
            self.add(paired.end(), stop)
            return stop
        quoted = _QUOTED.match(text, end)
        if quoted is not None:
            stop = self.closing(quoted.end(), quoted[1])
            if stop > quoted.end() and len(text[quoted.end() : stop].strip(b" ,:;")) > 2:
                value = text[quoted.end() : stop]
                if not is_holder_in_prose(value) and not self.record.names.is_field(value):
                    self.add(quoted.end(), stop)
                return stop
            return end
        if text[start : start + 1] == b"-":
            value_of = _FLAG_VALUE.match(text, end)
            if value_of is not None:
                group = value_of.lastindex or 0
                if not is_holder_in_prose(value_of[group]):
                    self.add(*value_of.span(group))
                return value_of.end()
        blank = _BLANK.match(text, end)
        if blank is not None:
            stop = self.looks(blank.end(), self.end)
            if stop and (first or made(text[blank.end() : stop])):
                self.add(blank.end(), stop)
                return stop
        return end

    def said(self, says: re.Match[bytes], end: int) -> int:
        """`Your password is x`."""
        at = says.end()
        self.line(at)
        if says[1]:
            stop = self.stop(at, self.end)
            self.add(at, stop)
            return stop
        stop = self.looks(at, min(len(self.text), at + _LINE_SEEN))
        if not stop:
            return end
        self.add(at, stop)
        return stop

    def looks(self, at: int, end: int) -> int:
        """The end of a word here that looks like a secret and no word of a language; 0."""
        m = _WORDS.match(self.text, at, min(end, at + _LINE_SEEN))
        if m is None:
            return 0
        word = m[0].rstrip(b".,;!?)*")
        size = len(word)
        if size < 4 or _DATED.match(word) or is_holder_in_prose(word):
            return 0
        letters = word.translate(None, b"0123456789")
        digits = size - len(letters)
        marks = not letters.isalnum() and letters != b""
        if (
            (digits and letters.translate(None, b"-.,/%:") and size >= 5)
            or (digits == size and 4 <= size <= 12)
            or (marks and size > 7 and not re.fullmatch(rb"[A-Za-z]+(?:[-/'._][A-Za-z]+)*:?", word))
            or (size >= 16 and made(word))
        ):
            return at + size
        return 0

    def closing(self, at: int, quote: bytes) -> int:
        """Where this quote closes; -1. A quote followed by what ends no value is part of it."""
        text = self.text
        limit = min(len(text), at + _VALUE_MAX)
        while True:
            stop = text.find(quote, at, limit)
            if stop < 0:
                return -1
            back = stop
            while back > at and text[back - 1] == 92:
                back -= 1
            if (stop - back) & 1 and text[stop + 1 : stop + 2] not in (b"", b"\n", b",", b"}"):
                at = stop + 1
            elif text[stop + 1 : stop + 2] == quote:  # doubled
                at = stop + 2
            else:
                return back if stop > back else stop

    def stop(self, at: int, end: int) -> int:
        limit = min(end, at + _VALUE_MAX)
        m = _STOP.search(self.text, at, limit)
        self.record.spend(max(0, (m.start() if m is not None else limit) - at) >> _SEARCHED)
        return m.start() if m is not None else end

    def assigned(self, start: int, at: int, kind: int, sign: bytes, first: bool) -> int:
        """A separator follows the name: the value from `at` on. Returns where to go on."""
        text = self.text
        if at > self.end:
            self.line(at)
        rest = text[at : min(self.end, at + _LINE_SEEN)]
        if kind in (TEXT, MANY, COUNT, MADE):
            m = _SCALAR_WORD.match(text[at : at + _LINE_SEEN].lstrip(b" \t\r\n-|>[{\"'"))
            word = m[1] if m is not None else b""
            digits = word.translate(None, b"0123456789._") != word
            if not made(word) and (kind == MADE or not digits or not word.translate(None, b"0123456789.")):
                return at
        before = text[start - 1 : start]
        if rest[:1] == b"$" and (variables := _VARIABLES.search(text, at)) is not None:
            self.line(variables.end() - 1)
            return self.bracketed(variables.end() - 1, b"{", b":")
        if _TYPE.match(rest) or rest.startswith(MASK) or is_holder_in_prose(rest.strip(b" \t\r,;.\"'")):
            return at
        if before in (b"?", b"&") and before and sign == b"=":
            value = _IN_QUERY.match(text, at)
            assert value is not None
            return self.valued(at, value.end())
        quote = rest[:1]
        if rest[:2] in (b'\\"', b"\\'"):
            stop = self.closing_escaped(at, rest[1:2])
            return self.valued(at, stop)
        if quote and quote in b"\"'`":
            return self.quoted(at, quote)
        if quote and quote in b"{[(":
            return self.bracketed(at, quote, sign)
        if not rest.strip() or rest.strip() in (b"|", b">", b"|-", b">-", b"|+", b">+"):
            return self.block(at)
        if sign == b":" and (property_of := _PROPERTY.match(rest)) is not None:  # of a YAML node
            if property_of.end() < len(rest):
                return self.assigned(start, at + property_of.end(), kind, sign, first)
            below = self.block(at)
            return below if below > at else self.valued(at, at + len(rest))
        bare = _BARE.match(rest)
        if bare is not None:
            return self.valued(at, at + bare.end(1))
        if _CALL.match(rest) and not made(rest.partition(b"(")[0]):
            return at
        limit = self.end
        if before in (b'"', b"'") and before not in text[start:at]:  # -H "Authorization: x" https://h
            closed = text.find(before, at, min(limit, at + _VALUE_MAX))
            limit = closed if closed >= 0 else limit
        end = self.stop(at, limit)
        if before == b"(" and text[end - 1 : end] == b")":
            end -= 1
        if first and sign == b":" and end >= self.end:
            indent = self.indent()
            more = block_end(self.record, text, self.end + 1, indent, dash=False)
            if more > self.end + 1:
                self.valued(at, end)
                self.add(self.end + 1, more)
                return more
        return self.valued(at, end)

    def valued(self, start: int, end: int) -> int:
        value = self.text[start:end].strip()
        reference = _REFERENCE.fullmatch(value)  # password = var.db_password
        if not is_holder_in_prose(value) and not (reference and self.record.names.is_field(reference[1])):
            self.add(start, end)
        return max(start, end)

    def closing_escaped(self, at: int, quote: bytes) -> int:
        stop = self.text.find(b"\\" + quote, at + 2, self.end)
        return stop + 2 if stop >= 0 else self.end

    def quoted(self, at: int, quote: bytes) -> int:
        text = self.text
        if text[at : at + 3] == quote * 3:
            stop = text.find(quote * 3, at + 3)
            stop = stop if stop >= 0 else len(text)
            self.add(at + 3, stop)
            return stop + 3
        stop = self.closing(at + 1, quote)
        if stop < 0:  # never closed, or too far away
            self.add(at + 1, len(text) if quote == b'"' and self.end - at < 200 else self.end)
            return len(text) if quote == b'"' and self.end - at < 200 else self.end
        line_end = text.find(b"\n", stop, stop + _VALUE_MAX)
        tail = text[stop + 1 : line_end if line_end >= 0 else stop + _LINE_SEEN]
        if tail.count(quote) & 1 and tail[:1] not in (b",", b"}", b"]", b")", b";", b"&", b">"):
            stop += 1 + tail.rfind(quote)  # `password='a' b'`
        if not is_holder_in_prose(text[at + 1 : stop]):
            self.add(at + 1, stop)
        return stop + 1

    def bracketed(self, at: int, quote: bytes, sign: bytes) -> int:
        if quote == b"(" and sign == b":":
            return at
        depth = 0
        end = min(len(self.text), at + 4 * _VALUE_MAX)
        for number, m in enumerate(_BRACKETS.finditer(self.text, at, end)):
            if number > 2_000:
                raise TooCostly
            c = m[0]
            if c in b"{[(":
                depth += 1
            elif c in b"}])":
                depth -= 1
                if depth == 0:
                    end = m.end()
                    break
        self.record.spend(1 + (end - at) // 32)
        if (quote == b"{" and sign == b"=>") or block_is_described(self.record, self.text[at + 1 : end]):
            return at
        if end - at > 2:
            self.add(at, end)
        return end

    def indent(self) -> int:
        head = self.text[self.begin : self.begin + 200]
        return len(head) - len(head.lstrip(b" \t"))

    def block(self, at: int) -> int:
        """Nothing on this line: the deeper lines below, or the next one when it is no pair itself."""
        text = self.text
        if _CODE_LINE.match(text, self.begin, at):
            return at
        begin = self.end + 1
        end = block_end(self.record, text, begin, self.indent(), dash=True)
        if end <= begin:
            return at
        if block_is_described(self.record, text[begin:end]):
            return self.end
        self.add(begin, end)
        return end


_WORD_ENDS = bytes.maketrans(b"\t\r\n\"'<>", b" " * 7)
