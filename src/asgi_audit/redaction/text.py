"""The grammar of text: `name: value` of every kind, sentences, commands, SQL; lists and blocks are in `lines`.

Each alarm is examined once, in order. The text after the name shows whether a value follows. The value consumes its
bytes: to its closing quote or bracket, to the next pair, to the end of the line, or over the indented lines below. So
the grammar examines no byte twice. Words of a harmless kind, types (`token: str`) and placeholders end an alarm.
"""

from __future__ import annotations

import re

from .alarms import BASE64, CODE_KEY, COMMAND, ESCAPE, FORM, NAME, Alarm
from .forms import made
from .grid import grid_edits
from .layers import BASE64_WORD, ENTITIES, PERCENT, UNICODE, Edit, base64_text, placed
from .lines import block_end, label_edits, line_end
from .names import ASKED, YES
from .record import CANDIDATE, Record, TooCostly
from .sql import column_values
from .tables import COMMANDS
from .values import IN_QUERY, IS, LINE_SEEN, Values

__all__ = ["text_edits"]

_CANDIDATES_MAX = 3_000

_FOR_WHOM = rb"(?:is generated )?for (?:the |user |my |our )?[\"']?(?:https?://)?[^\s:=]{1,60}"
_SAID = IS + rb"|" + _FOR_WHOM + rb"(?:[ ]" + IS + rb")?"
_ASSIGN = re.compile(
    rb"(?:\\{0,3}[\"'`\])*}%]|:(?:[\"\w\\]{1,60}:)?(?:protected|private)(?=\])|>>|</?[a-z]{1,8}>"
    rb"|\[[0-9]{0,3}\]|[ ]?\?|\x1b\[[0-9;]{0,12}m){0,6}[ \t]{0,40}"
    # `password string = "x"`, `API key provided: x`, `Password for mira: x`, `Password ..... : x`
    rb"(?:(?:[0-9]{1,2}(?=:)|(?:&?str|[sS]tring|As String|provided|given|used|received|sent|" + _SAID + rb")"
    rb"[ \t]{0,3}(?=[:=]))"
    # `'$password' expected value of type 'String!' but got: "x"`
    rb"|expected [^\n\"]{1,80}?(?:got|received|found)(?=:)"
    rb"|\.{2,40}[ \t]{0,10})?"
    rb"(:=|::(?=[ ][A-Za-z0-9+/]*[0-9+/=])|=>|->|={1,3}|<<<|\xe2(?:\x86\x92|\x9e\x9c|\x87\x92)"
    rb"|:(?!//|:)|\.{4,40}(?=[ \t])|\xef\xbc[\x9a\x9d]|;[si]:(?:[0-9]{1,6}:(?=\"))?)"
    rb"(?:[ \t]*\x1b\[[0-9;]{0,12}m){0,3}(?:(?:\*{1,3}|_{2})(?=[ ]))?[ \t]*"
    rb"(?:<<(?=\")|[\r\n]{0,2}[ \t]{0,40}string\([0-9]{1,6}\)[ ]{1,2}(?=\")"  # of Erlang; of PHP's var_dump
    rb"|(?:new )?(?:String|NetworkCredential|SecretStr|strdup|\[\]byte)\((?:\"\"[ ]?,[ ]?)?(?=\"))?"
)
# `password is x`, `password was changed from x to y`; without blanks in Chinese, Japanese and Korean.
_SAYS = re.compile(
    rb"[\"'`*)]{0,3}(?:[ \t]{1,3}" + _FOR_WHOM + rb"(?=[ ](?:is|was)[ ]))?(?:[ \t\r\n]{1,3}(?:"
    rb"(?:was |has been |is now )?(?:changed|set|reset|updated|rotated)"
    rb"(?: from [\"'`]?([^\s\"'`]{1,200})[\"'`]?)? to:?|wurde auf"
    rb"|" + IS + rb")[ \t\r\n]{1,4}"
    rb"|(?:\xe3\x81\xaf|\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xeb\x8a\x94|\xec\x9d\x80)[ \t:\xef\xbc\x9a]{0,3}"
    rb"(?:\xe3\x80\x8c|\xe2\x80\x9c)?(?=[!-~]{4}))[\"'`(*]{0,3}"
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
# `password "x"`, `token IN ('x')`, `Token(value='x')`
_QUOTED = re.compile(
    rb"(?:\\{0,3}[\"'`]?[ \t]{1,3}(?:(?i:like|(in)|as|to|by|be|with value|got invalid value)[ \t]{0,3}"
    rb"|!=[ \t]{0,3}|<>[ \t]{0,3})?\(?|\((?:(?:value|key|token|secret)=)?)[ \t]{0,3}"
    rb"\\{0,3}([\"'])"
)
_NEXT_ITEM = re.compile(rb"[ \t]{0,3},[ \t]{0,3}([\"'])")
# `--password x`
_OPTION_VALUE = re.compile(rb"[ \t]+(?:\"([^\"\n]{1,400})\"|'([^'\n]{1,400})'|([^\s\"',(-][^\s\"']{0,800}))")
# `:param password: the password of the user`
_DOCUMENTED = re.compile(rb"[:@](?:param|type|arg|ivar|keyword)[ ](?:[A-Za-z]{1,12}[ ])?\Z")
# What a parser says: `Unexpected token: x`; and `secret "tls" not found`.
_PARSED = re.compile(
    rb"(?i:unexpected|near|special) token:? {0,2}"
    rb"(?:[\"'`]?[A-Za-z]{1,12}[\"'`]?(?=[ .,\n\"]|\Z)|<[A-Za-z_|/]{1,30}[0-9]{0,3}>)"
)
_NOT_FOUND = re.compile(
    rb"(?i:secrets?) \"[a-z]{1,20}(?:[.-][a-z]{1,20}){0,4}\" (?:not found|already exists|is forbidden)"
)
_NEXT_LINE = re.compile(rb"[ \t]{0,10}\r?\n")
# Without a blank between words: `验证码123456`.
_GLUED_CODE = re.compile(rb"[\x80-\xff]([0-9]{4,8})\Z")
_KEY_LABEL = re.compile(rb"\b([A-Za-z]{1,12}[0-9])Label=\Z")  # `cs1Label=password cs1=x`
# The header of a section whose every value is one: `[secrets]`.
_SECTION = re.compile(rb"s\][ \t\r]{0,20}\n", re.I)
_SECTION_PAIR = re.compile(
    rb"[ \t]{0,20}[\w.\"'-]{1,60}[ \t]{0,20}=[ \t]{0,20}[\"']?([^\s\"'#;\[]{1,400})[\"']?[ \t\r]{0,20}(?:\n|\Z)"
)
_SEEN, _PIPED = 200, 320  # of what is before a name on its line

# Where a value is beside a name: what it must be, the expression behind the name, and the one before it on its line.
# The group is the value; without a group it is the word that follows.
# ANY: anything. SET: no placeholder. DATA: nor a name. SECRET: see `looks`. MADE: digits and letters, or made by a
# machine. TOLD: made by a machine, or SECRET where `before` matches. PAIRED, ASSIGNED: see `paired`, `assigned`.
_ANY, _SET, _DATA, _SECRET, _MADE, _TOLD, _PAIRED, _ASSIGNED = range(8)
_FIRST = re.compile(rb"^[ \t\-\"'*>#{\[]*\Z", re.M)
_PLACES = tuple(
    (wants, re.compile(after).match, re.compile(before, re.M).search if before else None)
    for wants, after, before in (
        # In broken JSON: `"loc": ["body", "password"], "input": "x"`.
        (_ASSIGNED, rb"\\{0,3}[\"'][ \t]{0,3}[\]},][^\n]{0,200}?"
         rb"[\"'](?i:value|input|default|content|data|val|old|new)\\{0,3}[\"'][ \t]{0,3}:[ \t]{0,3}", None),
        # `variable "password" { default = "x" }`
        (_ASSIGNED, rb"\"[ \t]{0,3}\{[^{}]{0,400}?\b(?:default|value)[ \t]{0,40}=[ \t]{0,3}", rb"variable \"\Z"),
        # `{name: TOKEN, value: x}`
        (_ASSIGNED, rb"[\"']?,[ ]{0,3}(?:value|default|val):[ ]{1,3}",
         rb"[{,][ ]{0,3}(?:name|key|field|id):[ ]{1,3}[\"']?\Z"),
        # `"password", "x"`
        (_PAIRED, rb"(\\{0,3}[\"']|:)?[ \t]{0,3},[ \t]{0,3}(?:\r?\n[ \t]{0,40})?(?:<<)?\\{0,3}([\"'])", None),
        # `the token (x)`, `password[x]`
        (_SECRET, rb"[ \t]{1,3}(?:[(\[]([^\s\"'<>`()\[\]]{4,400})(?:[)\]]|\Z)"
         rb"|<([^\s\"'<>`]{4,400})(?:>|\Z))", None),
        (_ANY, rb"[ ]?[(\[]([0-9]{4,8})[)\]]", None),
        (_MADE, rb"[(\[{</#]([^\s()\[\]{}<>/#:=,;\"'|]{8,100}={0,2})(?=[)\]}>\s.]|\Z)", rb"(?:^|[^/])\Z"),
        # `password 0 x`, as routers are told: the digit says how it is encrypted.
        (_SECRET, rb"\]?[ \t]{1,8}(?:[057]|cipher|simple)[ \t]{1,3}(?=[^\s:=])", None),
        # What is done with a secret: `using token x`, `your password x`, `Benutzer m, Passwort x`.
        (_TOLD, rb"\]?[ \t]{1,8}(?=[^\s:=])", _FIRST.pattern + rb"|(?i:\b(?:using|use|used|loaded|loading|with|rotate"
         rb"|rotated|try|tried|send|sending|sent|got|getting|verify|generated|your|my|new|dein|ihr|votre|tu|su)"
         rb"|\xd0\xb2\xd0\xb0\xd1\x88|\xd0\x92\xd0\xb0\xd1\x88)(?:[ ](?:the|a|this|your|my|new))?[ ]\Z|[,/][ ]\Z"),
        # What a line says before a name that is set to the word behind it: `setx TOKEN x`, `ENV API_KEY x`, `.netrc`.
        (_SET, rb"\]?[ \t]{1,8}(?:(?:[057]|cipher|simple)[ \t]{1,3})?[\"']?([^\s\"'$<>]{3,400})[\"']?"
         rb"(?:[ \t\r]{0,20}(?:\n|\Z)|[ \t]{1,3}(?:&&|\||;|-|account\b|login\b))",
         rb"^[ \t>$#]{0,8}(?:setx|SetEnv|setenv|ENV|ARG|set[ \t]-[a-zA-Z]{1,4}|proxy_set_header"
         rb"|RequestHeader set|add_header"
         rb"|[^\n]{0,80}(?:[ \t]config|configure|secrets?|variables?|env)[ :](?:--)?(?:set|add|put)"
         rb"|username[ \t]+[^\s]+[^\n]{0,40}|set[ \t]system[^\n]{0,60}|[^\n]{0,80}wifi connect[ \t][^\s]+"
         rb"|machine[ \t]+[^\s]+(?:[ \t]+login[ \t]+[^\s]+)?|default(?:[ \t]+login[ \t]+[^\s]+)?|login[ \t]+[^\s]+)"
         rb"[ \t]+(?:[^\s]{0,60}[:/_])?\Z"),
        # The next cell: `| password | x |`, `password,x`.
        (_SECRET, rb"[\"'`*]{0,3}[ \t]{0,40}\|[ \t`]{0,10}([^\s|`][^|\n`]{0,400})`?[ \t]{0,10}\|?"
         rb"[ \t\r]{0,10}(?:\n|\Z)", rb"^[ \t|*`\"']*\Z"),
        (_SECRET, rb"[\"']?[ ]?[,;][ ]?[\"']?([^\s,;|\"']{8,400})", _FIRST.pattern),
    )
)  # fmt: skip
# Where a value is before a name: what it must be, what must occur, the expression that ends at the name.
_PLACES_BEFORE = (
    # `Invalid value "x" for field password`
    *((_ANY, quote, re.compile(
        quote + rb"([^\"'\n]{4,100})\\{0,3}[\"'][ \t](?:is invalid |is not valid |given )?(?:for|in|of|as)[ \t]"
        rb"(?:the )?(?:field|parameter|key|header|property|option|column|argument)[ \t]{0,2}\\{0,3}[\"'`]?\Z"))
      for quote in (b'"', b"'")),
    # `123456 is your OTP`, `use x as password`, `"x" is the password`
    *((_SECRET, verb, re.compile(
        rb"([^\s\"'`*<>]{4,100})[\"'`*]{0,3}" + verb.rstrip() + rb"(?:[ ](?:your|the|my|our|a|their))?"
        rb"(?:[ ][\w-]{1,20}){0,2}[ ]{0,2}\Z")) for verb in (b" is ", b" as ")),
    # What an `echo` writes into the command behind the pipe; a name before a colon is a user.
    (_ANY, b"|", re.compile(
        rb"(?:echo|printf|Write-Output)[ \t]{1,3}(?:-[a-zA-Z]{1,3}[ \t]{1,3})?[\"']?(?:[A-Za-z][\w.@-]{0,40}:)?"
        rb"([^\"'|\n$]{4,200}?)(?:\\n)?[\"']?[ \t]{0,3}\|[^|\n]{0,100}\Z")),
)  # fmt: skip
_ANSWERS_BELOW = re.compile(rb"[\"']?[ \t]{0,3}:[ \t\r]{0,20}\n")
_ANSWER = re.compile(
    rb"^[ \t]{0,40}+(?:-[ \t]{1,3})?[\"']?(?:answer|a|response|reply)[0-9]{0,2}[\"']?:[ \t]{1,9}([^\n]+)$", re.M
)
_IDENTIFIER = re.compile(rb"[a-z][a-z_ ]*")
_WORDS = re.compile(rb"[^\s\"'<>`]+")
# No secret: a time, a version, `varchar(255)`.
_NO_SECRET = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}:[0-9]{2}|v?[0-9]+\.[0-9]+|[A-Za-z_.]+\(")
_PHRASE = re.compile(rb"[A-Za-z]+(?:[-/'._][A-Za-z]+)*:?")
_ALPHABETS = bytes(c for c in range(256) if chr(c).isalpha() or c > 127)
# What separates a name from its value, escaped: `access_token%3Dx`, `password&quot;:`.
_ESCAPED_SIGN = re.compile(rb"%(?:25){0,3}(?:3[aAdD]|22|20|5[dD])|&(?:#|quot;|apos;|gt;)|\\{1,4}u00(?:3[aAdD]|22)")
_ARN = re.compile(rb"arn:[a-z0-9:-]{3,120}")
_NEAR_END = 8  # a name that the end of a value took with it may have a value of its own: a quote was never closed
_RUN = re.compile(rb"[^\s\"'<>]{1,4000}")
_OAUTH_BESIDE = re.compile(rb"[?&;](?:state|session_state|iss|scope|client_id|redirect_uri|grant_type)=")


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


class _Text(Values):
    def __init__(self, record: Record, text: bytes, depth: int) -> None:
        super().__init__(record, text)
        self.depth = depth

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
        self.record.spend(CANDIDATE)
        command = COMMANDS[number]
        m = command.rest(self.text, end - self.text[start:end].endswith(b" "))
        if m is None or (command.plain and not m["secret"].strip(b"0123456789:.")):  # a port
            return start
        if not self.record.is_holder_in_prose(m["secret"]):
            self.add(*m.span("secret"))
        return m.end("secret")

    def code(self, start: int, end: int) -> int:
        """`?code=x&state=y` in a URL in the text."""
        if self.text[end - 1] != 61 or self.text[start - 1 : start] not in (b"?", b"&", b";"):
            return start
        value = IN_QUERY.match(self.text, end)
        assert value is not None  # it matches nothing
        stop = value.end()
        begin = max(0, start - 1_000, self.text.rfind(b" ", 0, start) + 1)
        beside = self.text[begin : start + 1] + self.text[stop : stop + 1_000]
        if stop - end >= 6 and _OAUTH_BESIDE.search(beside):
            self.add(end, stop)
        return stop

    def escaped(self, start: int, what: int) -> int:
        """A word with escapes in it, or one that may be base64: undone, and judged as a document of its own."""
        low = max(0, start - 300)
        left = low + self.text[low:start].translate(_WORD_ENDS).rfind(b" ") + 1
        run = _RUN.match(self.text, left)
        if run is None or run.end() <= start:
            return start
        word = run[0]
        if what == BASE64:
            for m in BASE64_WORD.finditer(word):
                decoded = base64_text(m[0])
                if decoded is not None and self.record.inner(decoded, self.depth + 1):
                    self.add(left + m.start(), left + m.end())
            return run.end()
        for escapes in (PERCENT, UNICODE, ENTITIES):
            plain, layer = self.record.undone(word, escapes)
            if plain != word:
                # The value may stand behind the word: `pass%77ord: x`.
                if found := self.record.inner(plain, self.depth + 1):
                    self.edits += placed(found, left, layer)
                    return run.end()
                kind = self.record.names.kind(plain.strip(b"\"':=-*"))
                if kind == YES:
                    return max(run.end(), self.name(left, left + len(word.rstrip(b"\"':=")), kind))
        return run.end()

    # Names

    def name(self, start: int, end: int, kind: int) -> int:
        """A sensitive name in text: the text after it shows whether a value follows. Returns where to continue."""
        text = self.text
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
        if (
            assign is not None
            and (
                assign[1][:1] == b"."  # `Password .... x`, not `Resetting password.... done`
                or text[start:end].endswith(b"Exception")
                or _DOCUMENTED.search(text, max(self.begin, start - 30), start)
            )
        ):
            return self.word(assign.end()) or end
        if assign is not None:
            return self.assigned(start, assign.end(), kind, assign[1], first)
        if kind != YES:  # `echo x | y --token-stdin`
            return (text[start:end].endswith(b"stdin") and self.before(start, end)) or end
        if (qualified := _QUALIFIED.match(text, end)) is not None:
            self.record.spend(4)
            if stop := self.word(qualified.end()):
                return stop
        for told in (self.glued, self.spoken, self.quoted_beside, self.before, self.beside):
            if done := told(start, end):
                return done
        # Below a name that is alone on its line, such as a table of one column.
        if first and _NEXT_LINE.match(text, end) and not text[self.begin : start].strip():
            return self.below(end)
        return end

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
        if text[start - 1 : start] == b"[" and (head := _SECTION.match(text, end - 1)):
            return self.section(head.end())
        if digits := _GLUED_CODE.search(text, max(start, end - 12), end):
            self.add(*digits.span(1))
            return end
        label = _KEY_LABEL.search(text, max(self.begin, start - 20), start) if text[start - 1 : start] == b"=" else None
        if label is not None:
            at = text.find(b" " + label[1] + b"=", self.begin, min(self.end, start + 2_000))
            if at >= 0:
                begin = at + len(label[1]) + 2
                self.add(begin, self.stop(begin, self.end))
        return 0

    def section(self, at: int) -> int:
        """`[secrets]`: values that look like some."""
        while (pair := _SECTION_PAIR.match(self.text, at)) is not None:
            self.record.spend(2)
            if self.looks(*pair.span(1)):
                self.add(*pair.span(1))
            at = pair.end()
        return at

    def spoken(self, start: int, end: int) -> int:
        """`Your password is x`, `password changed from x to y`."""
        says = _SAYS.match(self.text, end)
        if says is None:
            return 0
        stop = self.word(says.end())
        if says[1] and (stop or self.looks(*says.span(1))):
            self.add(*says.span(1))
        return stop or end

    def word(self, at: int) -> int:
        """Masks the word here when it looks like a secret. Returns where it ends, 0 without one."""
        if stop := self.looks(at, len(self.text)):
            self.add(at, stop)
        return stop

    def quoted_beside(self, start: int, end: int) -> int:
        """`password "x"`, `token IN ('x', 'y')`"""
        m = _QUOTED.match(self.text, end)
        if m is None or _NOT_FOUND.match(self.text, start):
            return 0 if m is None else m.end()
        at, stop = m.end(), self.closed(m.end(), m[2])
        if m[1] or (len(self.text[at : max(at, stop)].strip(b" ,:;")) > 2 and self.wanted(at, stop, _DATA)):
            self.add(at, max(at, stop))
        while m[1] and stop >= 0 and (m := _NEXT_ITEM.match(self.text, stop + 1)):
            stop = self.closed(m.end(), m[1])
            self.add(m.end(), max(m.end(), stop))
        return max(stop, end)

    def paired(self, m: re.Match[bytes]) -> int:
        """Where the string ends that is the neighbour of a name; 0 when it is a name, too."""
        at, stop = m.end(), self.closed(m.end(), m[2])
        value = self.text[at:stop]
        if stop < 0 or _IDENTIFIER.fullmatch(value) or self.record.names.is_name(value) or self.record.is_holder(value):
            return 0
        told = m[1] and b"\n" not in m[0]  # not the next of a list of words
        return stop if told or self.looks(at, stop) == at + len(value.rstrip(b".,;!?)*")) else 0

    def closed(self, at: int, quote: bytes) -> int:
        """Where this quote closes, or the text is cut off; -1."""
        stop = self.closing(at, quote)
        return len(self.text) if stop < 0 and self.record.cut else stop

    def beside(self, start: int, end: int) -> int:
        """The first of the places behind the name that has a value."""
        if self.text[start : start + 1] == b"-" and (option := _OPTION_VALUE.match(self.text, end)):
            if self.wanted(*option.span(option.lastindex or 0), _DATA):
                self.add(*option.span(option.lastindex or 0))
            return option.end()
        low = max(self.begin, start - _SEEN)
        for wants, after, before in _PLACES:
            m = after(self.text, end)
            if m is None:
                continue
            at, stop = m.span(m.lastindex) if m.lastindex and wants != _PAIRED else (m.end(), self.end)
            if wants == _PAIRED:
                stop = self.paired(m)
            elif wants != _ASSIGNED:
                stop = self.wanted(at, stop, wants, whole=m.lastindex is not None)
            if stop and (
                before is None or (wants == _TOLD and made(self.text[at:stop])) or before(self.text, low, start)
            ):
                if wants == _ASSIGNED:
                    return self.assigned(start, at, YES, b":", False)
                self.add(at, stop)
                return stop
            if wants == _PAIRED:  # two names
                return end
        return 0

    def before(self, start: int, end: int) -> int:
        for wants, sign, before in _PLACES_BEFORE:
            low = max(self.begin, start - (_PIPED if sign == b"|" else _SEEN))
            if self.text.find(sign, low, start) < 0:
                continue
            self.record.spend(8)
            m = before.search(self.text, low, start)
            if m is not None and self.wanted(*m.span(1), wants):
                self.add(*m.span(1))
                return end
        return 0

    def wanted(self, at: int, end: int, wants: int, *, whole: bool = True) -> int:
        """Where such a value ends, which is the whole text or the first word here; 0. See `_PLACES`."""
        value = self.text[at:end]
        if wants in (_SECRET, _MADE, _TOLD):
            stop = self.looks(at, end)
            if wants == _MADE and not made(value) and value.translate(None, b"0123456789") in (value, b""):
                return 0
            return end if whole and stop else stop
        holder = wants != _ANY and self.record.is_holder_in_prose(value)
        named = wants == _DATA and self.record.names.is_name(value.strip(b"`'\"<>[](){},."))
        return 0 if holder or named else end

    def below(self, end: int) -> int:
        """Single words on the lines below a name that is alone on its line, such as a table of one column."""
        at = self.end + 1
        while at < len(self.text):
            stop = line_end(self.text, at)
            line = self.text[at:stop].strip()
            if not line or b" " in line or not self.looks(at, stop):
                break
            self.record.spend(2)
            self.add(at, stop)
            end = stop
            at = stop + 1
        return end

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
        letters = word.translate(None, b"0123456789")
        digits = size - len(letters)
        marks = letters.translate(None, _ALPHABETS) != b""
        if size < 4 or (not digits and not marks and size < 16):  # the most: words of a language
            return 0
        self.record.spend(4)
        if _NO_SECRET.match(word) or self.record.is_holder_in_prose(word):
            return 0
        if (
            (digits and letters.translate(None, b"-.,/%:") and size >= 5)
            or (digits == size and 4 <= size <= 12)
            or (marks and size > 7 and not _PHRASE.fullmatch(word))
            or (size >= 16 and made(word))
        ):
            return at + size
        return 0


_WORD_ENDS = bytes.maketrans(b"\t\r\n\"'<>", b" " * 7)
