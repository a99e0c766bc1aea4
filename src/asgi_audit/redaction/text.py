"""The grammar of text: `name: value` of every kind, sentences, commands, SQL; lists and blocks are in `lines`.

Each alarm is examined once, in order. The text after the name shows whether a value follows. The value consumes its
bytes: to its closing quote or bracket, to the next pair, to the end of the line, or over the indented lines below. So
the grammar examines no byte twice. Words of a harmless kind, types (`token: str`) and placeholders end an alarm.
"""

from __future__ import annotations

import re
from base64 import b64decode

from .alarms import BASE64, CODE_KEY, COMMAND, ESCAPE, FORM, NAME, Alarm
from .commands import commanded, piped
from .forms import made
from .grid import grid_edits, labelled_rows
from .layers import ENTITIES, PERCENT, UNICODE, Edit, placed
from .lines import block_end, label_edits
from .names import ASKED, CODE, NO, YES
from .record import CANDIDATE, Record, TooCostly
from .sql import column_values
from .tables import COMMANDS
from .values import LINE_SEEN, Values

__all__ = ["base64_text", "text_edits"]

_CANDIDATES_MAX = 3_000

_ASSIGN = re.compile(
    rb"(?:\\{0,3}[\"'`\])*}%]|:(?:[\"\w\\]{1,60}:)?(?:protected|private)(?=\])|>>|</?[a-z]{1,8}>"
    rb"|\[[0-9]{0,3}\]|[ ]?\?|\x1b\[[0-9;]{0,12}m){0,6}[ \t]{0,40}"
    # `password string = "x"`, `API key provided: x`, `Password for mira: x`, `Password ..... : x`
    rb"(?:(?:[0-9]{1,2}(?=:)|string|String|As String|&str|str|provided|given|used|received|sent|is now"
    rb"|(?:is generated )?for (?:the |user |my |our )?[\"']?(?:https?://)?[^\s:=]{1,60})"
    rb"[ \t]{0,3}(?=[:=])"
    # `'$password' expected value of type 'String!' but got: "x"`
    rb"|expected [^\n\"]{1,80}?(?:got|received|found)(?=:)"
    rb"|\.{2,40}[ \t]{0,10})?"
    rb"(:=|::(?=[ ][A-Za-z0-9+/]*[0-9+/=])|=>|->|===?|=|<<<|\xe2(?:\x86\x92|\x9e\x9c|\x87\x92)"
    rb"|:(?!//|:)|\.{4,40}(?=[ \t])|\xef\xbc[\x9a\x9d]|;[si]:(?:[0-9]{1,6}:(?=\"))?)"
    rb"(?:[ \t]*\x1b\[[0-9;]{0,12}m){0,3}(?:(?:\*{1,3}|_{2})(?=[ ]))?[ \t]*"
    rb"(?:<<(?=\")|[\r\n]{0,2}[ \t]{0,40}string\([0-9]{1,6}\)[ ]{1,2}(?=\")"  # of Erlang; of PHP's var_dump
    rb"|(?:new )?(?:String|NetworkCredential|SecretStr|strdup|\[\]byte)\((?:\"\"[ ]?,[ ]?)?(?=\"))?"
)
# `password is x` in some languages; without blanks in Chinese, Japanese and Korean.
_SAYS = re.compile(
    rb"[\"'`*)]{0,3}(?:[ \t]{1,3}for (?:the |my |our |user )?[\w.@-]{1,40}(?=[ ](?:is|was)[ ]))?"
    rb"(?:[ \t\r\n]{1,3}(?i:is now|is|was|are|ist|lautet|est|es|\xc3\xa9|\xc3\xa8|jest|er|\xc3\xa4r|on|to|-|este|je"
    rb"|adalah|anda adalah|dvs\. este|c\xe1\xbb\xa7a b\xe1\xba\xa1n l\xc3\xa0"
    rb"|\xcf\x83\xce\xb1\xcf\x82 \xce\xb5\xce\xaf\xce\xbd\xce\xb1\xce\xb9"
    rb"|\xd7\xa9\xd7\x9c\xd7\x9a \xd7\x94\xd7\x95\xd7\x90|\xd8\xa7\xd9\x84\xd8\xae\xd8\xa7\xd8\xb5 \xd8\xa8\xd9\x83"
    rb"|\xe2\x80[\x93\x94])(:?)[ \t\r\n]{1,4}"
    rb"|(?:\xe3\x81\xaf|\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xeb\x8a\x94|\xec\x9d\x80)[ \t:\xef\xbc\x9a]{0,3}"
    rb"(?:\xe3\x80\x8c|\xe2\x80\x9c)?(?=[!-~]{4}))[\"'`(*]{0,3}"
)
_CHANGED = re.compile(
    rb"[ \t]{1,3}(?:was |has been |is now )?(?:changed|set|reset|updated|rotated)"
    rb"(?: from [\"'`]?([^\s\"'`]{1,200})[\"'`]?)? to:? [\"']?|[ \t]wurde auf "
)
# `Password (initial): x`, `Mot de passe du wifi : x`, `The PIN for your SIM is x`; its sign on the next line.
_QUALIFIED = re.compile(
    rb"(?:[ \t]?\\?\r?\n(?=[ \t]{0,3}[:=][ ])|[ \t]{0,3}(?:\([^()\n]{1,40}\)|\[[^\[\]\n]{1,40}\])"
    rb"|[ \t](?:of|for|du|de|des|del|della|da|do|dla|von|vom|f\xc3\xbcr|zum|van|till|til|pour|para|per|provisoire"
    rb"|temporaire|\xd0\xbe\xd1\x82|\xd0\xb4\xd0\xbb\xd1\x8f|\xd0\xba)"
    rb"(?:[ ](?!(?:user|username|account|login|e?mail|client|host|id)[ ]?[:=])[^\s:=]{1,30}){0,4}?)"
    rb"[ \t]{0,3}(?:[:=]|(?:is|was|has been|est|ist|lautet|es|\xe2\x80[\x93\x94])(?: now)?"
    rb"(?: (?:changed|set|reset|updated) to)?:?(?=[ ]))[ \t]{0,3}(?:\xc2\xab[ ]?|[\"'`])?"
)
_QUOTED = re.compile(
    rb"(?:\\{0,3}[\"'`]?[ \t]{1,3}(?:(?i:like|(in)|as|to|by|be|with value|got invalid value)[ \t]{0,3}"
    rb"|!=[ \t]{0,3}|<>[ \t]{0,3})?\(?|\((?:(?:value|key|token|secret)=)?)[ \t]{0,3}"
    rb"\\{0,3}([\"'])"
)
_LISTED = re.compile(rb"[ \t]{0,3},[ \t]{0,3}([\"'])")
_ENCLOSED = re.compile(rb"[ \t]{1,3}([(<\[])")
_CLOSERS = {b"(": b")", b"<": b">", b"[": b"]"}
_FLAG_VALUE = re.compile(rb"[ \t]+(?:\"([^\"\n]{1,400})\"|'([^'\n]{1,400})'|([^\s\"'(-][^\s\"']{0,800}))")
_PAIRED = re.compile(rb"(\\{0,3}[\"']|:)?[ \t]{0,3},[ \t\r\n]{0,4}(?:<<)?\\{0,3}([\"'])")
# In broken JSON: `"loc": ["body", "password"], "input": "x"`.
_LABELLED = re.compile(
    rb"\\{0,3}[\"'][ \t]{0,3}[\]},][^\n]{0,200}?"
    rb"[\"'](?i:value|input|default|content|data|val|old|new)\\{0,3}[\"'][ \t]{0,3}:[ \t]{0,3}"
)
# `{name: TOKEN, value: x}`
_FLOW_NAME = re.compile(rb"[{,][ ]{0,3}(?:name|key|field|id):[ ]{1,3}[\"']?\Z")
_FLOW_VALUE = re.compile(rb"[\"']?,[ ]{0,3}(?:value|default|val):[ ]{1,3}")
# `password 0 x`, as routers are told: the digit says how it is encrypted.
_BLANK = re.compile(rb"\]?[ \t]{1,8}(?:([057]|cipher|simple)[ \t]{1,3})?(?=[^\s:=])")
# What a line says before a name that is set to the word behind it: `setx TOKEN x`, `ENV API_KEY x`, `.netrc`.
_SETS = re.compile(
    rb"[ \t>$#]{0,8}(?:setx|SetEnv|setenv|ENV|ARG|set[ \t]-[a-zA-Z]{1,4}|proxy_set_header|RequestHeader set|add_header"
    rb"|[^\n]{0,80}(?:[ \t]config|configure|secrets?|variables?|env)[ :](?:--)?(?:set|add|put)"
    rb"|username[ \t]+[^\s]+[^\n]{0,40}|set[ \t]system[^\n]{0,60}|[^\n]{0,80}wifi connect[ \t][^\s]+"
    rb"|machine[ \t]+[^\s]+(?:[ \t]+login[ \t]+[^\s]+)?|default(?:[ \t]+login[ \t]+[^\s]+)?|login[ \t]+[^\s]+)"
    rb"[ \t]+(?:[^\s]{0,60}[:/_])?\Z"
)
_WORD = re.compile(
    rb"[\"']?([^\s\"'$<>]{3,400})[\"']?(?:[ \t\r]{0,20}(?:\n|\Z)|[ \t]{1,3}(?:&&|\||;|-|account\b|login\b))"
)
_BAR = re.compile(
    rb"[\"'`*]{0,3}[ \t]{0,40}\|[ \t`]{0,10}([^\s|`][^|\n`]{0,400})`?[ \t]{0,10}\|?[ \t\r]{0,10}(?:\n|\Z)"
)
_NEXT_CELL = re.compile(rb"[\"']?[ ]?[,;][ ]?[\"']?([^\s,;|\"']{4,400})")
_NEXT_LINE = re.compile(rb"[ \t]{0,10}\r?\n")
# `Invalid value "x" for field password`
_FOR_FIELD = re.compile(
    rb"[\"']([^\"'\n]{4,100})\\{0,3}[\"'][ \t](?:is invalid |is not valid |given )?(?:for|in|of|as)[ \t](?:the )?"
    rb"(?:field|parameter|key|header|property|option|column|argument)[ \t]{0,2}\\{0,3}[\"'`]?\Z"
)
_KEY_END = re.compile(rb"([A-Za-z]{1,12}[0-9])L")
# `123456 is your OTP`, `use x as password`, `"x" is the password`
_SAID_BEFORE = re.compile(
    rb"([^\s\"'`*<>]{4,100})[\"'`*]{0,3}[ ](?:is|as)(?:[ ](?:your|the|my|our|a|their))?"
    rb"(?:[ ][\w-]{1,20}){0,2}[ ]{0,2}\Z"
)
# What is done with a secret: `using token x`, `your password x`, `Benutzer m, Passwort x`.
_DONE_WITH = re.compile(
    rb"(?i:\b(?:using|use|used|loaded|loading|with|rotate|rotated|try|tried|send|sending|sent|got"
    rb"|getting|verify|generated|your|my|new|dein|ihr|votre|tu|su)"
    rb"|\xd0\xb2\xd0\xb0\xd1\x88|\xd0\x92\xd0\xb0\xd1\x88)(?:[ ](?:the|a|this|your|my|new))?[ ]\Z|[,/][ ]\Z"
)
# In brackets that a name opens: `password(x)`, `password[x]`.
_IN_BRACKETS = re.compile(rb"[(\[{</#]([^\s()\[\]{}<>/#:=,;\"'|]{8,100}={0,2})(?=[)\]}>]|[\s.]|\Z)")
# `:param password: the password of the user`
_DOCUMENTED = re.compile(rb"[:@](?:param|type|arg|ivar|keyword)[ ](?:[A-Za-z]{1,12}[ ])?\Z")
# What a parser says: `Unexpected token: x`; and `secret "tls" not found`.
_PARSED = re.compile(
    rb"(?i:unexpected|near|special) token:? {0,2}"
    rb"(?:[\"'`]?[A-Za-z]{1,12}[\"'`]?(?=[ .,\n\"]|\Z)|<[A-Za-z0-9_|/]{1,30}>)"
)
_NOT_FOUND = re.compile(
    rb"(?i:secrets?) \"[a-z]{1,20}(?:[.-][a-z]{1,20}){0,4}\" (?:not found|already exists|is forbidden)"
)
# Without a blank between words: `验证码123456`, `认证码 [123456]`.
_GLUED_CODE = re.compile(rb"[\x80-\xff]([0-9]{4,8})\Z")
_BRACKETED_CODE = re.compile(rb"[ ]?[(\[]([0-9]{4,8})[)\]]")
# The header of a section whose every value is one: `[secrets]`.
_SECTION = re.compile(rb"\][ \t\r]{0,20}\n")
_SECTION_PAIR = re.compile(
    rb"[ \t]{0,20}[\w.\"'-]{1,60}[ \t]{0,20}=[ \t]{0,20}[\"']?([^\s\"'#;\[]{1,400})[\"']?[ \t\r]{0,20}(?:\n|\Z)"
)
_SECTION_MAX = 200
_FOR = (b"field", b"parameter", b"key", b"header", b"property", b"option", b"column", b"argument")
_BLOCK_DEFAULT = re.compile(rb"\"[ \t]{0,3}\{[^{}]{0,400}?\b(?:default|value)[ \t]{0,40}=[ \t]{0,3}")
_ANSWERS_BELOW = re.compile(rb"[\"']?[ \t]{0,3}:[ \t\r]{0,20}\n")
_ANSWER = re.compile(
    rb"^[ \t]{0,40}+(?:-[ \t]{1,3})?[\"']?(?:answer|a|response|reply)[0-9]{0,2}[\"']?:[ \t]{1,9}([^\n]+)$", re.M
)
_IDENTIFIER = re.compile(rb"[a-z][a-z_ ]*")
_WORDS = re.compile(rb"[^\s\"'<>`]+")
_CALLED = re.compile(rb"[A-Za-z_.]+\(")  # `varchar(255)`
_ALPHABETS = bytes(c for c in range(256) if chr(c).isalpha() or c > 127)
_DATED = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}:[0-9]{2}|v?[0-9]+\.[0-9]+")
# What separates a name from its value, escaped: `access_token%3Dx`, `password&quot;:`.
_ESCAPED_SIGN = re.compile(rb"%(?:25){0,3}(?:3[aAdD]|22|20|5[dD])|&(?:#|quot;|apos;|gt;)|\\{1,4}u00(?:3[aAdD]|22)")
_IN_QUERY = re.compile(rb"[^&#\s<>\"'`]*")
_COMMANDS_MAX = 60
_ARN = re.compile(rb"arn:[a-z0-9:-]{3,120}")
_NEAR_END = 8  # a name that the end of a value took with it may have a value of its own: a quote was never closed
_RUN = re.compile(rb"[^\s\"'<>]{1,4000}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_OAUTH_BESIDE = re.compile(rb"[?&;](?:state|session_state|iss|scope|client_id|redirect_uri|grant_type)=")


def base64_text(word: bytes) -> bytes | None:
    """What a word is in base64, when that is printable text; None."""
    word = word.strip()
    if not 16 <= len(word) <= 100_000 or _BASE64.fullmatch(word) is None:
        return None
    word = word.rstrip(b"=")
    word = word[: len(word) - (len(word) % 4 == 1)]  # cut
    try:
        plain = b64decode(word + b"==", altchars=b"-_" if b"-" in word or b"_" in word else None)
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
        reader.edits += found + labelled_rows(record, text)
        for start, end, plain in label_edits(record, text, alarms):
            reader.add(start, end, plain)
    reader.read(alarms, tables)
    return reader.edits


class _Text(Values):
    def __init__(self, record: Record, text: bytes, depth: int) -> None:
        super().__init__(record, text)
        self.depth = depth
        self.commands = 0

    def read(self, alarms: list[Alarm], tables: list[tuple[int, int]]) -> None:
        done = candidates = 0
        tables = [*tables, (len(self.text) + 1, 0)]
        table = 0
        if any(alarm.what == NAME for alarm in alarms):
            for start, end in column_values(self.record, self.text):
                self.add(start, end)
        for alarm in alarms:
            start, end, what, kind = alarm.start, alarm.end, alarm.what, alarm.kind
            if what == FORM:  # also where a name seems to stand in it
                self.add(start, end)
                done = max(done, end)
            if start < done and (what != NAME or done - end > _NEAR_END):
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
                done = max(done, self.command(start, end, kind))
            elif what == CODE_KEY:
                done = max(done, self.code(start, end))
            else:
                done = max(done, self.escaped(start, what))

    # What is no name

    def command(self, start: int, end: int, number: int) -> int:
        self.commands += 1
        if self.commands > _COMMANDS_MAX:
            return start
        span = commanded(COMMANDS[number], self.text, start, end)
        if span is None:
            return start
        if not self.record.is_holder_in_prose(self.text[span[0] : span[1]]):
            self.add(*span)
        return span[1]

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
                decoded = base64_text(m[0])
                if decoded is not None and self.record.inner(decoded, self.depth + 1):
                    self.add(begin + m.start(), begin + m.end())
            return run.end()
        for escapes in (PERCENT, UNICODE, ENTITIES):
            plain, layer = self.record.undone(word, escapes)
            if plain != word:
                # The value may stand behind the word: `pass%77ord: x`.
                found = self.record.inner(plain, self.depth + 1)
                if found:
                    self.edits += placed(found, left, layer)
                    return run.end()
                kind = self.record.names.kind(plain.strip(b"\"':=-*"))
                if kind == YES:
                    stripped = word.rstrip(b"\"':=")
                    return max(run.end(), self.name(left, left + len(stripped), kind))
        return run.end()

    # Names

    def name(self, start: int, end: int, kind: int) -> int:
        """A sensitive name in text: the text after it shows whether a value follows. Returns where to continue."""
        text = self.text
        if kind in (NO, CODE):
            return end
        self.line(start)
        if kind == ASKED:
            return self.answers(end)
        arn = text.rfind(b"arn:", max(self.begin, start - 120), start) if text[end : end + 1] == b":" else -1
        if arn >= 0 and _ARN.fullmatch(text, arn, start):  # of AWS: the name of a secret
            return end
        first = start - self.begin < 200 and not text[self.begin : start].strip(b" \t-\"'*>#{[")
        if _ESCAPED_SIGN.match(text, end):
            return self.escaped(start, ESCAPE)
        if text[start:end].lower() == b"token" and any(_PARSED.match(text, max(0, start - n)) for n in (11, 5, 8)):
            return end
        assign = _ASSIGN.match(text, end)
        if assign is not None and assign[1][:1] == b".":  # `Password .... x`, not `Resetting password.... done`
            stop = self.looks(assign.end(), self.end)
            if stop:
                self.add(assign.end(), stop)
            return max(stop, end)
        if assign is not None and _DOCUMENTED.search(text, max(self.begin, start - 30), start):
            stop = self.looks(assign.end(), self.end)
            if stop:
                self.add(assign.end(), stop)
            return stop or end
        if assign is not None:
            return self.assigned(start, assign.end(), kind, assign[1], first)
        if text[start:end].endswith(b"stdin") and (span := piped(text, start)) is not None:
            self.add(*span)  # echo x | docker login --password-stdin
            return end
        if kind != YES:
            return end
        qualified = _QUALIFIED.match(text, end)
        if qualified is not None:
            stop = self.looks(qualified.end(), min(len(text), qualified.end() + LINE_SEEN))
            if stop:
                self.add(qualified.end(), stop)
                return stop
        for told in (self.glued, self.spoken, self.beside, self.before):
            done = told(start, end)
            if done:
                return done
        return self.blank(start, end, first)

    def answers(self, end: int) -> int:
        """`security_questions:` of YAML: the answers on the deeper lines below."""
        if not _ANSWERS_BELOW.match(self.text, end):
            return end
        begin = self.end + 1
        stop = block_end(self.record, self.text, begin, self.indent(), dash=True)
        for answer in _ANSWER.finditer(self.text, begin, stop):
            self.add(*answer.span(1))
        return max(end, stop)

    def glued(self, start: int, end: int) -> int:
        """No blank between words, and sections of secrets. Returns where to continue, like the next; 0: nothing."""
        text = self.text
        if text[start - 1 : start] == b"[" and text[end - 1] | 32 == 115 and (head := _SECTION.match(text, end)):
            return self.section(head.end())
        digits = _GLUED_CODE.search(text, max(start, end - 12), end)
        if digits is not None:
            self.add(*digits.span(1))
            return end
        code = _BRACKETED_CODE.match(text, end)
        if code is not None:
            self.add(*code.span(1))
            return code.end()
        return 0

    def section(self, at: int) -> int:
        """`[secrets]`: values that look like some."""
        for _ in range(_SECTION_MAX):
            pair = _SECTION_PAIR.match(self.text, at)
            if pair is None:
                break
            self.record.spend(2)
            if self.looks(*pair.span(1)) == pair.end(1):
                self.add(*pair.span(1))
            at = pair.end()
        return at

    def spoken(self, start: int, end: int) -> int:
        """Words or quotes say that the value follows. Returns where to continue, like the next ones; 0: nowhere."""
        text = self.text
        changed = _CHANGED.match(text, end)
        if changed is not None:
            stop = self.looks(changed.end(), min(len(text), changed.end() + LINE_SEEN))
            if changed[1] is not None and (stop or self.looks(*changed.span(1))):
                self.add(*changed.span(1))
            if stop:
                self.add(changed.end(), stop)
            return stop
        says = _SAYS.match(text, end)
        if says is not None:
            return self.said(says, end)
        enclosed = _ENCLOSED.match(text, end)
        if enclosed is not None:
            stop = self.looks(enclosed.end(), self.end)
            if stop and (text[stop : stop + 1] == _CLOSERS[enclosed[1]] or (stop == len(text) and self.record.cut)):
                self.add(enclosed.end(), stop)
                return stop
        quoted = _QUOTED.match(text, end)
        if quoted is not None and _NOT_FOUND.match(text, start):
            return quoted.end()
        if quoted is not None:
            stop = self.closing(quoted.end(), quoted[2])
            stop = len(text) if stop < 0 and self.record.cut else stop
            if quoted[1] and stop > quoted.end():
                self.add(quoted.end(), stop)
                return self.listed(stop)
            if stop > quoted.end() and len(text[quoted.end() : stop].strip(b" ,:;")) > 2:
                value = text[quoted.end() : stop]
                if not self.record.is_holder_in_prose(value) and not self.record.names.is_name(value):
                    self.add(quoted.end(), stop)
                return stop
            return end
        return 0

    def listed(self, stop: int) -> int:
        """`token IN ('a', 'b')`: the others."""
        for _ in range(100):
            another = _LISTED.match(self.text, stop + 1)
            end = self.closing(another.end(), another[1]) if another is not None else -1
            if another is not None and end < 0 and self.record.cut:
                end = len(self.text)
            if another is None or end < 0:
                break
            self.add(another.end(), end)
            stop = end
        return stop

    def beside(self, start: int, end: int) -> int:
        """The value is another string, cell or argument beside the name."""
        text = self.text
        labelled = _LABELLED.match(text, end)
        if labelled is not None:
            return self.assigned(start, labelled.end(), YES, b":", False)
        if text[end : end + 1] == b'"' and text[max(0, start - 12) : start].endswith(b'variable "'):
            default = _BLOCK_DEFAULT.match(text, end)
            if default is not None:
                return self.assigned(start, default.end(), YES, b"=", False)
        flow = _FLOW_VALUE.match(text, end)
        if flow is not None and _FLOW_NAME.search(text, max(self.begin, start - 40), start):
            return self.assigned(start, flow.end(), YES, b":", False)
        paired = _PAIRED.match(text, end)
        if paired is not None:
            stop = self.closing(paired.end(), paired[2])
            stop = len(text) if stop < 0 and self.record.cut else stop
            value = text[paired.end() : stop]
            if (
                stop < 0
                or _IDENTIFIER.fullmatch(value)
                or self.record.names.is_name(value)
                or self.record.is_holder(value)
            ):
                return end
            if paired[1] is None and self.looks(paired.end(), stop) != stop:
                return end
            self.add(paired.end(), stop)
            return stop
        if text[start : start + 1] == b"-":
            value_of = _FLAG_VALUE.match(text, end)
            if value_of is not None:
                group = value_of.lastindex or 0
                value = value_of[group].strip(b"`'\"<>[](){},.")
                if not self.record.is_holder_in_prose(value_of[group]) and not self.record.names.is_name(value):
                    self.add(*value_of.span(group))
                return value_of.end()
        return 0

    def before(self, start: int, end: int) -> int:
        """The value is before the name."""
        text = self.text
        seen = text[max(self.begin, start - 160) : start]
        if seen.rstrip(b" \t\"'`\\").endswith(_FOR):
            quoted = seen.find(b'"') if b'"' in seen else seen.find(b"'")
            m = _FOR_FIELD.search(seen, quoted) if quoted >= 0 else None
            if m is not None:
                base = start - len(seen)
                self.add(base + m.start(1), base + m.end(1))
                return end
        if seen.endswith(b"Label="):  # cs1Label=password cs1=x
            for word in _KEY_END.findall(seen[:-5])[-1:]:
                at = text.find(b" " + word + b"=", self.begin, min(self.end, start + 2_000))
                if at >= 0:
                    begin = at + len(word) + 2
                    self.add(begin, self.stop(begin, self.end))
        said = _SAID_BEFORE.search(seen) if b" is " in seen or b" as " in seen else None
        if said is not None:
            base = start - len(seen)
            stop = self.looks(base + said.start(1), base + said.end(1))
            if stop == base + said.end(1):
                self.add(base + said.start(1), stop)
                return end
        if b"|" in seen and (span := piped(text, start)) is not None:
            self.add(*span)
        return 0

    def blank(self, start: int, end: int, first: bool) -> int:
        """Only white space, or a bracket, is between the name and its possible value."""
        text = self.text
        enclosed = _IN_BRACKETS.match(text, end)
        if enclosed is not None and text[start - 1 : start] != b"/" and self.looks(*enclosed.span(1)):
            value = enclosed[1]
            if made(value) or (value.translate(None, b"0123456789") not in (value, b"") and not value.isdigit()):
                self.add(*enclosed.span(1))
                return enclosed.end(1)
        blank = _BLANK.match(text, end)
        if blank is not None:
            at = blank.end()
            stop = self.looks(at, self.end)
            told = first or blank[1] or _DONE_WITH.search(text[max(self.begin, start - 30) : start]) is not None
            if stop and (told or made(text[at:stop])):
                self.add(at, stop)
                return stop
            if _SETS.match(text[max(self.begin, start - 200) : start]) is not None:
                word = _WORD.match(text, at)
                if word is not None and not self.record.is_holder_in_prose(word[1]):
                    self.add(*word.span(1))
                    return word.end(1)
        bar = None if text[self.begin : start][-60:].strip(b" \t|*`\"'") else _BAR.match(text, end)
        if bar is not None and self.looks(bar.start(1), bar.end(1)) and not self.record.names.is_name(bar[1].strip()):
            self.add(*bar.span(1))
            return bar.end(1)
        if not first:
            return end
        cell = _NEXT_CELL.match(text, end)
        if cell is not None and cell.end(1) - cell.start(1) >= 8 and self.looks(*cell.span(1)) == cell.end(1):
            self.add(*cell.span(1))
            return cell.end(1)
        if _NEXT_LINE.match(text, end) is not None and not text[self.begin : start].strip():
            return self.below(end)
        return end

    def below(self, end: int) -> int:
        """Single words on the lines below a name that is alone on its line, such as a table of one column."""
        at = self.end + 1
        while at < len(self.text):
            stop = self.text.find(b"\n", at)
            stop = len(self.text) if stop < 0 else stop
            line = self.text[at:stop].strip()
            if not line or b" " in line or not self.looks(at, stop):
                break
            self.record.spend(2)
            self.add(at, stop)
            end = stop
            at = stop + 1
        return end

    def said(self, says: re.Match[bytes], end: int) -> int:
        """`Your password is x`."""
        at = says.end()
        self.line(at)
        if says[1]:
            stop = self.stop(at, self.end)
            self.add(at, stop)
            return stop
        stop = self.looks(at, min(len(self.text), at + LINE_SEEN))
        if not stop:
            return end
        self.add(at, stop)
        return stop

    def looks(self, at: int, end: int) -> int:
        """The end of a word here that looks like a secret and no word of a language; 0."""
        m = _WORDS.match(self.text, at, min(end, at + LINE_SEEN))
        if m is None:
            return 0
        word = m[0].rstrip(b".,;!?)*")
        size = len(word)
        if (
            self.record.cut
            and size > 3
            and at + len(m[0]) == len(self.text)
            and not self.record.is_holder_in_prose(word)
        ):
            return at + size
        if size < 4 or _DATED.match(word) or _CALLED.match(word) or self.record.is_holder_in_prose(word):
            return 0
        letters = word.translate(None, b"0123456789")
        digits = size - len(letters)
        marks = letters.translate(None, _ALPHABETS) != b""
        if (
            (digits and letters.translate(None, b"-.,/%:") and size >= 5)
            or (digits == size and 4 <= size <= 12)
            or (marks and size > 7 and not re.fullmatch(rb"[A-Za-z]+(?:[-/'._][A-Za-z]+)*:?", word))
            or (size >= 16 and made(word))
        ):
            return at + size
        return 0


_WORD_ENDS = bytes.maketrans(b"\t\r\n\"'<>", b" " * 7)
