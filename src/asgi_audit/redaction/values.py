"""Finds the end of a value in text, from the position after its separator: its closing quote or bracket, the next pair,
the end of the line, or the end of the indented lines below. Consumed bytes are not examined again."""

from __future__ import annotations

import re

from .forms import made
from .layers import Edit
from .lines import block_end, block_is_described, is_marked_list, line_end
from .names import COUNT, MADE, MANY, TEXT
from .record import MASK, Record, TooCostly

__all__ = ["IN_QUERY", "IS", "LINE_SEEN", "Values"]

_VALUE_MAX = 8_000
LINE_SEEN = 400
# Verbs in some languages: `password is x`.
_VERBS = tuple(verb.encode() for verb in (
    "is now", "is", "was", "are", "ist", "lautet", "est", "es", "é", "è", "jest", "er", "är", "on", "to", "-", "–", "—",
    "este", "je", "adalah", "anda adalah", "dvs. este", "của bạn là", "σας είναι", "שלך הוא", "الخاص بك",
))  # fmt: skip
IS = rb"(?i:" + b"|".join(map(re.escape, _VERBS)) + rb")"
_SPEAKING = tuple(b" " + verb for verb in _VERBS)
_SEARCHED = 5  # 32 bytes of a search for the end of a value are one step
# What begins another pair, or ends the context of this one.
_STOP = re.compile(
    rb"[;,&|]?[ \t]{1,3}-{0,2}[A-Za-z_][\w.-]{0,40}=(?!=)[^\s]|;[ \t]{0,3}[A-Za-z][\w ]{0,30}="
    rb"|&[A-Za-z_][\w\[\].]{0,40}="
    rb"|,[ \t]{0,3}\\{0,3}[\"']?[A-Za-z_][\w.-]{0,40}\\{0,3}[\"']?[ \t]{0,2}[:=](?!/)|<(?=[/A-Za-z!])"
    rb"|[ \t](?:AND|OR|WHERE|LIMIT|RETURNING|ORDER BY|GROUP BY)[ \t(]"
    rb"|\\{0,3}\"[ ]?[,}\]]|'[ \t]+(?:WHERE|AND|http)|\x1b\[|;[sibad]:[0-9]"
)
_TYPE = re.compile(
    rb"(?:str|int|string|bool|boolean|list|dict|tuple|set|bytes|Optional|Union|number|any|object|null|None|true|false|unknown|void"
    rb"|uuid|UUID|SecretStr|String|ID|Int|Mapped|text|TEXT|VARCHAR|varchar)(?![\w-])"
    rb"(?:\[[^\]\n]{0,80}\]|<[^>\n]{0,80}>|\([0-9, ]{0,20}\))?!?[ \t\r]*"
    rb"(?:[,)=|;}\]?&\n#]|->|NOT NULL|\Z)"
)
_EXPANDED = re.compile(rb"[-=+?]([^}\n]{0,200})\}")
_SELECTOR = re.compile(rb":?[a-z-]{3,30}(?:\([^)\n]{0,40}\))?[^\n;=]{0,40}\{")  # of CSS: `#token:hover {`
_NUMBERED = re.compile(rb"[0-9]{1,5};")
_DECLARED = re.compile(
    rb"\b(?:string|bytes|bool|u?int(?:32|64)|double|float)[ \t]{1,3}\Z"
)  # protobuf: `string token = 3;`
_ANGLED = re.compile(rb"<[^<>\n/]{4,80}>[ \t\r]{0,9}\Z")  # `<your password>`, or a password in angle brackets
_DEFAULT = re.compile(rb"[ \t]{0,3}(?=[rbf&]?[\"'])")  # `token: str = 'x'`
_BARE = re.compile(rb"(-?[0-9][0-9.eE+-]*|true|false|null|[A-Za-z0-9_.-]{1,200})[ \t]*(?=[}\]])")
# What YAML puts before a value: `!!str x`, `!Sub x`, `&anchor x`; `!vault |`. `!Zq7Hunter2` is a value.
_PROPERTY = re.compile(
    rb"(?:!|!{1,2}[A-Za-z][A-Za-z/.:-]{0,40}|&[A-Za-z_][A-Za-z_-]{0,30}[0-9]{0,2})"
    rb"(?:[ \t]+(?:[|>][0-9+-]{0,2}[ \t\r]*\Z)?|\r?\Z)"
)
_SCALAR_WORD = re.compile(rb"[\"'`]?([^\s\"'`,;&}\])]{0,400})")
_CALL = re.compile(
    rb"[A-Za-z_][\w.]{0,60}\(|(?:os\.environ|process\.env|request|self|this|config|settings|env)\b[.\[]"
    rb"|(?:[A-Za-z_]\w{0,40}\.){1,4}[A-Za-z_]\w{0,40}\[[\"']"
    rb"|\$_(?:GET|POST|REQUEST|SERVER|ENV|COOKIE|SESSION|FILES)\[|await |new |function|async |\(\) ?=>|lambda "
)
_CODE_LINE = re.compile(
    rb"[ \t]*(?:if|elif|while|for|def|class|with|async|case|switch|function|return|else|match)\b|[^\n]{0,200}(?:->|\()"
)
# Of a GraphQL query in broken JSON.
_VARIABLES = re.compile(rb"variables\\{0,3}[\"'][ \t]{0,3}:[ \t\r\n]{0,3}\{")
# An argument of a command before the name, or its option: `--from-literal=password=x`, `-passin pass:x`.
_OPTION = re.compile(rb"-(?<!\S-)-?[A-Za-z][\w-]{0,40}[ =][^\s\"'`]{0,100}\Z")
_ARGUMENT_END = re.compile(rb"\s")
_REFERENCE = re.compile(rb"(?:[A-Za-z_]\w{0,40}\.){0,4}([A-Za-z_]{2,60})[;,]?[ \t)}\]]{0,8}")
IN_QUERY = re.compile(rb"[^&#\s<>\"'`]*")
# No value: a variable of GraphQL (`login(password: $password)`), a function, a table of a manifest, `Bearer <token>`.
_CODE = re.compile(
    rb"(?i:bearer|token|basic|apikey)[ ]<(?:[a-z_ -]{1,40}|[A-Z_ -]{1,40})>"
    rb"|\$[a-z][A-Za-z_]{1,60}[),]|\([\w ,]{0,80}\)[ ]?=>"
    rb"|\{[ \t]{0,9}(?:version|features|path|git|workspace|optional|default-features)[ \t]{0,3}="
)
# Below `/token:`, a route of OpenAPI in YAML.
_ROUTE = re.compile(
    rb"[\r\n]{1,4}[ \t]{1,40}[\"']?(?:get|post|put|patch|delete|head|options|trace|parameters|summary"
    rb"|description|servers|\$ref|x-[a-z-]{1,40})[\"']?:"
)
_STATEMENT = re.compile(rb"(?:raise|return|continue|break|pass|yield)\b")
_PARTED = re.compile(rb"(?i:digest|oauth|hawk|mac|aws4-hmac-sha256)[ ][A-Za-z_]{1,40}=")
# A member of an object that holds a value, whatever the others describe.
_HOLDS = re.compile(
    rb"[{,][ \t]{0,3}[\"']?(?:value|data|content|val|raw|secret)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?[^\s\"',{}\[\]]{4}"
)
_BRACKETS = re.compile(rb"\"[^\"\\\n]*+(?:\\.[^\"\\\n]*+)*\"?|[{}\[\]()]")


def is_spoken(name: bytes) -> bool:
    """Whether a name, with what is between it and its value, is prose: `password is: `."""
    return name.rstrip(b" \t\r\n:\"'").lower().endswith(_SPEAKING)


class Values:
    """Masks values of one text."""

    def __init__(self, record: Record, text: bytes) -> None:
        self.record = record
        self.text = text
        self.edits: list[Edit] = []
        self.begin = 0  # of the line that was looked at last
        self.end = -1

    def add(self, start: int, end: int, plain: bytes | None = None) -> None:
        self.record.spend(2)
        value = self.text[start:end]
        kept = value.strip()
        if kept and kept != MASK:
            lead = len(value) - len(value.lstrip())
            self.edits.append(
                self.record.mask(start + lead, start + lead + len(kept), kept if plain is None else plain)
            )

    def line(self, at: int) -> None:
        """Sets the bounds of the line around `at`; on one long line each search would be quadratic."""
        if not self.begin <= at <= self.end:
            self.begin = self.text.rfind(b"\n", 0, at) + 1
            self.end = line_end(self.text, at)

    def closing(self, at: int, quote: bytes) -> int:
        """Where this quote closes; -1. A quote followed by what ends no value is part of it."""
        text = self.text
        limit = min(len(text), at + _VALUE_MAX)
        tried = 0
        while True:
            stop = text.find(quote, at, limit)
            tried += 1
            if tried & 15 == 0 or stop < 0:
                self.record.spend(4)  # a quote that nothing closes, in a text of quotes, is looked for again and again
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
        """A separator follows the name: the value from `at` on. Returns where to continue."""
        text = self.text
        if at > self.end:
            self.line(at)
        rest = text[at : min(self.end, at + LINE_SEEN)]
        if kind in (TEXT, MANY, COUNT, MADE):
            m = _SCALAR_WORD.match(text[at : at + LINE_SEEN].lstrip(b" \t\r\n-|>[{\"'"))
            word = m[1] if m is not None else b""
            digits = word.translate(None, b"0123456789._") != word
            if not made(word) and (kind == MADE or not digits or not word.translate(None, b"0123456789.")):
                return at
        before = text[start - 1 : start]
        if before == b"{" and text[start - 2 : start - 1] == b"$":  # ${TOKEN:-x}
            default = _EXPANDED.match(rest)
            if default is not None:
                return self.valued(at + default.start(1), at + default.end(1))
        if (before in (b"#", b".") and _SELECTOR.match(rest)) or (
            sign == b"=" and _NUMBERED.match(rest) and _DECLARED.search(text, max(self.begin, start - 20), start)
        ):
            return at
        if rest[:1] == b"$" and (variables := _VARIABLES.search(text, at)) is not None:
            self.line(variables.end() - 1)
            return self.bracketed(variables.end() - 1, b"{", b":")
        typed = _TYPE.match(rest)
        if typed is not None and typed[0].endswith(b"=") and (default := _DEFAULT.match(rest, typed.end())) is not None:
            return self.assigned(start, at + default.end(), kind, b"=", False)
        if rest.strip(b" \t\r,;") in (b'")', b"')"):  # `getpass("Password: ")`
            return at
        if typed is not None or rest.startswith(MASK) or self.record.is_holder_in_prose(rest.strip(b" \t\r,;.\"'`)")):
            return at
        if before in (b"?", b"&") and before and sign == b"=":
            value = IN_QUERY.match(text, at)
            assert value is not None
            return self.valued(at, value.end())
        if _CODE.match(rest) or (_STATEMENT.match(rest) and _CODE_LINE.match(text, self.begin, start)):
            return at
        if before == b"/" and sign == b":" and not rest.strip() and _ROUTE.match(text, self.end):
            return at
        quote = rest[:1]
        if rest[:2] in (b'\\"', b"\\'"):
            stop = text.find(rest[:2], at + 2, self.end)
            return self.valued(at, stop + 2 if stop >= 0 else self.end)
        if quote and quote in b"\"'`":
            return self.quoted(at, quote)
        if quote and quote in b"{[(":
            return self.bracketed(at, quote, sign)
        if not rest.strip() or rest.strip() in (b"\\", b"|", b">", b"|-", b">-", b"|+", b">+"):
            return self.block(at, text[start : start + 8].rstrip(b":"), spoken=is_spoken(text[start:at]))
        if sign == b":" and (property_of := _PROPERTY.match(rest)) is not None:  # of a YAML node
            if property_of.end() < len(rest):
                return self.assigned(start, at + property_of.end(), kind, sign, first)
            below = self.block(at)
            return below if below > at else self.valued(at, at + len(rest))
        angled = _ANGLED.match(rest)
        if angled is not None:
            return self.valued(at, at + angled.end())
        bare = _BARE.match(rest)
        if bare is not None:
            return self.valued(at, at + bare.end(1), text[start:at])
        if _CALL.match(rest) and not made(rest.partition(b"(")[0]):
            return at
        limit = self.end
        if before in (b'"', b"'") and before not in text[start:at]:  # -H "Authorization: x" https://h
            closed = text.find(before, at, min(limit, at + _VALUE_MAX))
            limit = closed if closed >= 0 else limit
        elif text[at - 1 : at] == sign and self.is_argument(start, sign):
            blank = _ARGUMENT_END.search(text, at, min(limit, at + _VALUE_MAX))
            limit = blank.start() if blank is not None else limit
        # Parts of one value: `Authorization: Digest username="x", response="x"`
        end = limit if sign == b":" and _PARTED.match(rest) else self.stop(at, limit)
        if before == b"(" and text[end - 1 : end] == b")":
            end -= 1
        if first and sign == b":" and end >= self.end:
            indent = self.indent()
            more = block_end(self.record, text, self.end + 1, indent, dash=False)
            if more > self.end + 1:
                self.valued(at, end)
                self.add(self.end + 1, more)
                return more
        return self.valued(at, end, text[start:at])

    def is_argument(self, start: int, sign: bytes) -> bool:
        """Whether the name at `start` is in an argument of a command, whose value ends at a blank."""
        if sign == b"=" and self.text[start : start + 1] == b"-":
            return True
        return _OPTION.search(self.text[max(self.begin, start - 160) : start]) is not None

    def valued(self, start: int, end: int, name: bytes = b"") -> int:
        value = self.text[start:end].strip()
        if not self.record.is_holder_in_prose(value) and not self.is_variable(value, name):
            self.add(start, end)
        return max(start, end)

    def is_variable(self, value: bytes, name: bytes) -> bool:
        """Whether a value is a variable: `password = var.db_password`, `f(token=token)`. name: with its sign. A single
        word is one only when the name ends in it (`password: supersecret` is data), and none is in `DB_PASSWORD=x`."""
        reference = _REFERENCE.fullmatch(value)
        if self.record.tail.endswith(value):  # the beginning of a value that is cut off
            return False
        if reference is None or not self.record.names.is_name(reference[1]) or is_spoken(name):
            return False
        word = reference[1]
        if b"." not in value and b"_" not in word and word.islower() and b")" not in name:  # `(user, password): pass`
            return name.strip(b" \t:=\"'").lower().endswith(word)
        return not (word.islower() and name.isupper() and name[-1:] == b"=")

    def quoted(self, at: int, quote: bytes) -> int:
        text = self.text
        if text[at : at + 3] == quote * 3:
            stop = text.find(quote * 3, at + 3)
            stop = stop if stop >= 0 else len(text)
            self.add(at + 3, stop)
            return stop + 3
        stop = self.closing(at + 1, quote)
        if stop == at + 1 and text[at + 2 : at + 3].isalnum():  # a doubled quote, in a cell of CSV
            return self.quoted(at + 1, quote)
        if stop < 0:  # never closed, or too far away
            end = len(text) if quote == b'"' and self.end - at < 200 else self.end
            self.add(at + 1, end)
            return end
        line_break = text.find(b"\n", stop, stop + _VALUE_MAX)
        tail = text[stop + 1 : line_break if line_break >= 0 else stop + LINE_SEEN]
        if tail.count(quote) & 1 and tail[:1] not in (b",", b"}", b"]", b")", b";", b"&", b">"):
            stop += 1 + tail.rfind(quote)  # `password='a' b'`
        if not self.record.is_holder_in_prose(text[at + 1 : stop]):
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
        if (quote == b"{" and sign == b"=>") or (
            block_is_described(self.record, self.text[at + 1 : end]) and not _HOLDS.search(self.text, at, end)
        ):
            return at
        if end - at > 2:
            self.add(at, end)
        return end

    def indent(self) -> int:
        head = self.text[self.begin : self.begin + 200]
        return len(head) - len(head.lstrip(b" \t"))

    def block(self, at: int, name: bytes = b"", *, spoken: bool = False) -> int:
        """Nothing on this line: the deeper lines below, or the next one when it is no pair itself."""
        text = self.text
        if not spoken and _CODE_LINE.match(text, self.begin, at):
            return at
        begin = self.end + 1
        end = block_end(self.record, text, begin, self.indent(), dash=True)
        if end <= begin:
            return at
        if block_is_described(self.record, text[begin:end], named=name.lower() == b"secrets"):
            return self.end
        if is_marked_list(self.record, text[begin:end]):
            return at
        self.add(begin, end)
        return end
