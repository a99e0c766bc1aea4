"""Which names are sensitive, and the scan that tells quickly that some bytes hold none of them.

A name is compared without case, percent and \\u escapes, and the characters in `SEPARATORS`, so that `pass-word`,
`Pass_Word`, `pass%77ord` and `user[password]` are one name. It is sensitive when it

* contains one of `STEMS` (`new_password`, `csrfToken`, `x-api-key`), after the harmless words of `_HARMLESS` are
  taken out (`secretary`, `tokenizer`, `token_type`, `compass`);
* or is, or as its last word has, one of `_SHORT` (`pin`, `card_pin`, `userPin`, but not `shipping`);
* or is one of the operator's names (whole, or a part between dots and brackets).

Two kinds are masked only in part. A *loose* name (`max_tokens`, `total_tokens`, `auth`, `session`) is masked when
its value is a string or an array: as a number it is a count, as an object its own fields decide. `code` is masked
only where OAuth is spoken (beside `grant_type`, or `state` in a query). Bare `key`, page cursors without `token` in
their name, and user names are left. When unsure we mask.

Invariants: `hit` never misses a name that `classify` calls sensitive and that stands in the bytes in any of these
spellings (it may raise false alarms: they cost time only). It is linear: 4 µs a kB with `ahocorasick_rs` installed,
22 without (m). The caches hold names alone (letters, separators and two last digits, at most 42 characters, at most
2,048 of them), never a value.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator
from itertools import product

from .needles import Found, alternation, decisive, searcher
from .redaction_shapes import ANY_CASE, SHAPES, USERINFO, WEAK, card_spans, may_hold_user, shapes

__all__ = [
    "CLEAN", "CODE", "LABEL", "LOOSE", "REDACTED", "SENSITIVE", "SEPARATORS", "STEMS", "USERINFO", "VALUED",
    "Found", "Names", "card_spans", "shapes",
]  # fmt: skip

REDACTED = "[REDACTED]"

CLEAN, SENSITIVE, LOOSE, CODE, LABEL, VALUED = range(6)

SEPARATORS = b"-_. []()'\"/@;+*#!?|~$^`\\{\t"
_CONTROL = bytes(c for c in range(32) if c not in b"\t\r\n")
_HIGH = bytes(range(128, 256))
_IGNORED = SEPARATORS + _CONTROL + _HIGH

STEMS = (
    "password", "passwd", "passwort", "passphrase", "passcode", "passkey", "pwd", "kennwort", "motdepasse",
    "contrasena", "contrasea", "secret", "token", "authorization", "cookie", "credential", "apikey", "accesskey",
    "privatekey", "signingkey", "encryptionkey", "masterkey", "authkey", "sharedkey", "accountkey", "subscriptionkey",
    "functionskey", "clientkey", "sshkey", "hmackey", "recoverykey", "servicekey", "webhookkey", "sessionid",
    "sessionkey", "sessid", "csrf", "xsrf", "jwt", "bearer", "cvv", "cvc", "cardnumber", "cardnum", "cardno",
    "creditcard", "debitcard", "pincode", "pinnumber", "otpcode", "onetimecode", "codeverifier", "devicecode",
    "authcode", "authorizationcode", "verificationcode", "securitycode", "securityanswer", "recoverycode",
    "backupcode", "signature", "samlresponse", "samlassertion", "clientassertion", "socialsecurity",
    "connectionstring", "pswd", "mfacode", "2facode", "twofactorcode", "invitecode", "invitationcode", "rsakey",
    "databaseurl", "mnemonic", "seedphrase", "recoveryphrase", "encryptioncustomerkey",
)  # fmt: skip
_SHORT = frozenset(
    {"pin", "otp", "totp", "cvv2", "pw", "pass", "pass1", "pass2", "psw", "sid", "sig", "ssn", "csc", "dsn"}
)
_SHORT_LOOSE = frozenset({"auth", "session"})
_SHORT_ENDS = tuple(_SHORT | _SHORT_LOOSE)
# What ends a short name for the scan, which drops quotes: in HTML the next attribute does (name="pin" value="1234"), in
# a sentence `is`.
_AFTER_SHORT = (
    ":",
    "value",
    "type",
    "content",
    "placeholder",
    "maxlength",
    "inputmode",
    "autocomplete",
    "required",
    "is",
)
# What may stand before one of them without a mark between: HTTP makes `userPin` `userpin`.
_BEFORE_SHORT = (
    "(?:user|card|login|account|bank|atm|sim|device|security|access|new|old|current|my|client|db|database|smtp|ftp|ssh"
    "|admin|root|mail|email|proxy|sms|mfa|totp|connect|php|express|x|is)?"
)
_BEFORE_SHORT_ALONE = re.compile(_BEFORE_SHORT)
_SHORT_JOINED = re.compile(f"{_BEFORE_SHORT}(?:{'|'.join(sorted(_SHORT))})")
# Names that speak of a secret without holding one: who tokenizes, which Secret of Kubernetes, where tokens are issued,
# when a password was changed, how long it must be, what the form shows beside it.
_STEM = re.compile(alternation(STEMS))
_HARMLESS = re.compile(
    r"secretar(?:y|ies|iat)|tokeni[sz](?:er|ers|ation|e|ed)|tokentype(?:hint)?|passwordless|signaturealgorithm"
    r"|secret(?:key)?ref|secretname|imagepullsecrets?|automountserviceaccounttoken|signingsecretversion|bearerformat"
    r"|(?:token|authorizations?|devicecode)(?:url|uri|endpoint)(?!s?(?:secret|token|password))|tokenendpointauth\w*"
    r"|(?:password|token|secret|cookie|credential|passcode|passkey)s?"
    r"(?:(?:last)?(?:changed|updated|created|modified|rotated|issued|used|reset|set|expires|expired)(?:at|on)"
    r"|expires(?:in)?|expiry|lifetime|ttl|maxage|minlength|maxlength|length|policy|policies|strength|required|enabled"
    r"|label|placeholder|tooltip|title|description|format|algorithm|consent|banner|notice|preferences|domain|samesite"
    r"|errors?|invalid|mismatch|tooshort|tooweak|toolong|incorrect|help|count)$"
    r"|(?:forgot|forgotten|show|hide|toggle|has|no)(?:my|your|the)?(?:password|passcode|token|cookie|credential)s?"
    r"(?:button|link|text|title|label|question)?$"
)
_COUNTER = re.compile(
    r"(?:(?:max|min|total|num|n|prompt|completion|input|output|cached?|creation|read|new|reasoning|audio|text|image|used|remaining"
    r"|context|accepted|rejected|prediction|avg|average|limit)+tokens?|tokens?)"
    r"(?:used|count|limit|remaining|usage|details|left|total|max|per(?:second|minute|day|request)|expires|expiresin|expiresat|ttl)?"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SEGMENT = re.compile(r"[.\[\]]+")

# Keys whose *value* names a field, and the keys beside them that then hold the field's value: FastAPI's 422
# ({"loc": ["body", "password"], "input": "hunter2"}), name and value pairs of every kind.
_LABELS = frozenset({
    "loc", "name", "key", "field", "param", "parameter", "header", "path", "property", "attribute", "label",
    "fieldname", "location", "pointer", "instancepath", "datapath", "propertypath", "variable", "k", "n",
    "type", "id", "blockid", "title", "question", "kind", "attributename", "propertyname", "paramname",
    "parametername", "headername", "variablename", "keyname",
})  # fmt: skip
_VALUED = frozenset({
    "value", "values", "input", "inputvalue", "ctx", "context", "val", "data", "default", "current", "previous",
    "old", "new", "oldvalue", "newvalue", "from", "to", "before", "after", "rejectedvalue", "attemptedvalue",
    "invalidvalue", "actual", "received", "given", "content", "text", "v", "string", "stringvalue", "instance", "msg",
    "message", "detail", "answer", "variables", "stringdata", "fieldvalue", "attributevalue", "propertyvalue",
    "paramvalue", "parametervalue", "headervalue", "variablevalue", "keyvalue",
})  # fmt: skip

_NEVER_CLEAN = _LABELS | _VALUED | {"code"}

# The skeleton: lower case, digits as 0, what ends a name as ':', what separates inside one and a, e dropped. It is 40 %
# shorter than the bytes, and its needles have few and rare letters. A capital A is kept as \x01, so that the ids of
# AWS (AKIA…) can be told from words; a needle stands there with and without each a of its name.
_ENDS = b",:=<>]}%&\n\r"
_FROM = string.ascii_uppercase.encode() + b"123456789" + _ENDS
_TO = b"\x01" + string.ascii_lowercase.encode()[1:] + b"0" * 9 + b":" * len(_ENDS)
_SKELETON = bytes.maketrans(_FROM, _TO)
_KEPT = bytes(c for c in _IGNORED if c not in _ENDS)
_SKELETON_DROP = bytes(set(_KEPT) | set(b"aeE"))
_A_MAX = 6  # a needle ends before the seventh a of its name: 64 spellings
# What no stem covers: OAuth's `grant_type` (beside it `code` is a secret).
_GRANT = "granttype"
_DIGITS = b"0" * 15

_NORMAL = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())

# For text: ':' is what stands between a name and its value, ',' what begins a new clause; separators inside names
# dropped.
_TEXT_FROM = string.ascii_uppercase.encode() + b"=>" + b";&{}()<?|\r\n"
_TEXT_TO = string.ascii_lowercase.encode() + b"::" + b",,,,,,,,,,\n"
_TEXT = bytes.maketrans(_TEXT_FROM, _TEXT_TO)
_TEXT_DROP = bytes(c for c in _IGNORED if c not in b";&{}()?|")

# In text a short word counts when it is one by itself (`pin: 1`, `card_pin=1`, `userPin=1`); what stands before it is
# looked at after the match.
_TAIL = re.compile(rb"[^:,\n]{0,40}+:")

# A sentence that tells a secret: what stands after the verb has a digit, and is a word by itself when it is a number.
_SAYS = re.compile(
    rb"\b(?i:is|was|are|ist|lautet|est)[ \t\r\n]++[\"'`(*]{0,3}+"
    rb"((?=[^\s\"'`<>(){}]{0,200}[0-9])(?=[^\s\"'`<>(){}]{0,200}[A-Za-z])[^\s\"'`<>(){}]{6,200}+"
    rb"|[0-9]{4,10}+(?![^\s.,;!\"'`)*]|[ \t,]*+[0-9A-Za-z(]))"
)
_SAYS_MAX = 200
# A word in quotes that something follows in a list or an object; and, looked for behind sensitive words alone, its
# value: `("password", "x")`, unless a word follows that may be a name too; and names in broken JSON that stand for a
# field: `"loc": ["body", "password"], "input": "x"`. One expression for both looked at 200 bytes behind each word.
_QUOTED_WORD = re.compile(rb"[\"']([A-Za-z][A-Za-z0-9_. -]{1,40}+)\\{0,3}[\"'][ \t]*+(?=[\]},])")
_PAIRED = re.compile(
    rb",[ \t\r\n]*+\\{0,3}[\"'](?![a-z_]{0,40}+\\{0,3}[\"'])"
    rb"|[\]},][^\n]{0,200}?[\[:][ \t]{0,40}+\\{0,3}(?=[\"'0-9])"
)

# `--password x`, and `PASSWORD 'x1'` as SQL has it.
_FLAG = re.compile(
    rb"(?:--([A-Za-z][A-Za-z0-9_-]{1,40}+)[ \t]++(?=[^\s-])"
    rb"|\b([A-Za-z][A-Za-z0-9_]{1,40}+)[ \t]++\\{0,3}[\"'](?=[^\s\"']{0,100}[0-9])(?=[^\s\"']{4}))"
)

# Of a run of backslashes only the first may begin a match: tried at each, 60,000 of them took seconds.
_ESCAPE = re.compile(rb"(?<!\\)\\++u00([2-7][0-9a-fA-F])")
# Line breaks that were escaped, once or more: without them `\\npin` would be another word.
_BREAKS = re.compile(rb"(?<!\\)\\++[nrtbf]")
# Characters that no name is compared with, escaped inside a key: "pass\\tword".
_ESCAPE_IN_KEY = re.compile(rb"\\(?:[nrtbf/\"\\]|u[0-9a-fA-F]{4})[^\"\\]{0,60}+\"[ \t\r\n]*+:")
_BREAK_BEFORE_END = re.compile(rb"\"[ \\]{0,20}\\[nrtbf][ \\nrtbf]{0,40}[:=>]")
_PERCENT = re.compile(rb"%(?:25)*([2-7][0-9a-fA-F])")
_NO_SPACES = bytes.maketrans(b' \t\r\n<>"?#', b"." * 9)  # what was escaped in a password
_ESCAPES_MAX = 2000
_ASCII = {b"%02x" % c: bytes((c,)) for c in range(128)} | {b"%02X" % c: bytes((c,)) for c in range(128)}
_CACHEABLE = re.compile(rb"[A-Za-z_.\-]{1,40}[0-9]{0,2}")
_CACHE_MAX = 2048
_FOUND_MAX = 64
_NAME_MAX = 256  # of a longer name its end counts, and any stem in it


def _unescaped(data: bytes) -> bytes:
    """`data` with percent and \\u escapes of printable ASCII undone, however often escaped. To search in only."""
    for _ in range(5):
        before = data
        if b"\\u" in data:
            data = _ESCAPE.sub(_character, data)
        if b"%" in data:
            data = _PERCENT.sub(_character, data.replace(b"%25", b"%"))
        if data == before:
            break
    return data


def _riddled(data: bytes) -> bool:
    """So many escapes that undoing them would take milliseconds: then everything is suspicious."""
    return data.count(b"%") > _ESCAPES_MAX or data.count(b"\\u00") > _ESCAPES_MAX


def _character(m: re.Match[bytes]) -> bytes:
    return _ASCII.get(m[1]) or _ASCII[m[1].lower()]


# Two expressions, because one of both took 8 ms for 64 KiB of short words that nothing follows, in one call.
_SHORT_WORD = re.compile(alternation(_SHORT | _SHORT_LOOSE, fold=True).encode())
_SHORT_TAIL = re.compile(rb"(?:[\"'\s\])\\?]{0,8}+(?:is)?|[\"'][^:=>,;&<\n]{1,40}+)[:=>]")
_LETTERS = string.ascii_letters.encode()


def _short_in(text: bytes, look: Callable[[int], None]) -> Iterator[int]:
    """Offsets of the short words that stand before a separator. look: called for each word."""
    word, tail = _SHORT_WORD.search, _SHORT_TAIL.match
    at = 0
    while (m := word(text, at)) is not None:
        start = m.start()
        at = start + 1
        look(0)
        if not tail(text, m.end()):
            continue
        before = text[max(0, start - 12) : start]
        letters = before[len(before.rstrip(_LETTERS)) :]
        camel = text[start : start + 1].isupper() and letters[-1:].islower()
        if not letters or camel or _BEFORE_SHORT_ALONE.fullmatch(letters.decode().lower()):
            yield start


class Names:
    """The built-in names and the operator's. All builders of a process with the same names share one, in any
    thread."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._own = frozenset(n for n in (_normal(name.encode()) for name in more) if n)
        own = [s for name in self._own for s in _skeletons(name)]
        # A name without a consonant leaves no needle: then every scan is an alarm, which is slow and right.
        self._always = "" in own
        words = sorted(_SHORT | _SHORT_LOOSE)
        short = [s for w in words for end in _AFTER_SHORT for s in _skeletons(w + end)]
        stems = {s: stem.encode() for stem in STEMS for s in _skeletons(stem)}
        strong = decisive([*stems, *short, *_skeletons(_GRANT), *_shapes_of(SHAPES), *own])
        weak = _shapes_of(WEAK)
        needles = decisive([*strong, *weak])
        self._weak = len([needle for needle in needles if needle not in weak])  # the number of the first weak one
        self._spelled = [stems.get(needle, b"\0") for needle in needles]
        # More than these are not told apart.
        self._search = searcher(needles, enough=_FOUND_MAX)
        self._search_strong = searcher(strong, enough=_FOUND_MAX)
        self._short = searcher(decisive(short), enough=_FOUND_MAX)
        self._shapes = searcher(decisive([*_shapes_of(SHAPES), *weak]), enough=_FOUND_MAX)
        self._stems = searcher(decisive([*STEMS, *self._own]))
        self._cache: dict[bytes, int] = {}

    def classify(self, name: str) -> int:
        """CLEAN, SENSITIVE, LOOSE or CODE; and for keys of JSON LABEL or VALUED."""
        if "%" in name or "\\" in name:
            name = _unescaped(name.encode("utf-8", "replace")).decode("utf-8", "replace")
        normal = _normal(name.encode("utf-8", "replace"))
        if normal in self._own or (
            self._own and any(_normal(part.encode("utf-8", "replace")) in self._own for part in _SEGMENT.split(name))
        ):
            return SENSITIVE
        if len(normal) > _NAME_MAX:
            # A document or a sentence where a name should be. What tells harmless names apart looks at the ends of
            # each of its words.
            if _STEM.search(normal):
                return SENSITIVE
            name, normal = name[-_NAME_MAX:], normal[-_NAME_MAX:]
        elif _STEM.search(normal):  # `token` of the counters is a stem too
            if _COUNTER.fullmatch(normal) and normal not in ("token", "tokens"):
                return LOOSE
            if _STEM.search(_HARMLESS.sub(",", normal)):
                # A path of a document of routes, `"/auth/token": {"post": …}`, is no field.
                return LOOSE if name[:1] == "/" else SENSITIVE
        stripped = normal.rstrip("0123456789")
        if not (normal.endswith(_SHORT_ENDS) or stripped.endswith(_SHORT_ENDS) or stripped in _NEVER_CLEAN):
            return CLEAN  # most names, for half of the price
        words = _WORD.findall(_without_index(name) if name[-1:] in "0123456789]" else name)
        last = words[-1].lower() if words else ""
        if words and last.isalpha():
            normal = stripped  # `pins[0]`, `card.pin.0`
        if _SHORT_JOINED.fullmatch(normal) or (last in _SHORT and normal.endswith(last)):
            return SENSITIVE
        if normal in _SHORT_LOOSE or (last in _SHORT_LOOSE and normal.endswith(last)):
            return LOOSE
        if normal == "code":
            return CODE
        if normal in _LABELS:
            return LABEL
        return VALUED if normal in _VALUED else CLEAN

    def classify_bytes(self, name: bytes) -> int:
        """`classify` of UTF-8 bytes without JSON escapes, remembered."""
        known = self._cache.get(name)
        if known is not None:
            return known
        kind = self.classify(name.decode("utf-8", "replace"))
        if _CACHEABLE.fullmatch(name):
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            self._cache[name] = kind
        return kind

    def hit(self, data: bytes) -> bool:
        """Whether a sensitive name or value may stand anywhere in these bytes (JSON, text, form, header value)."""
        found = self.found(data)
        return found is None or len(found) > 0

    def found(self, data: bytes) -> Found | None:
        """`hit` with what `places` needs: where needles stand in the skeleton. None: it is not these, or not only."""
        # A name may be the last word.
        skeleton = data.translate(_SKELETON, _SKELETON_DROP) + b":"
        if self._always:
            return None
        found = self._search(skeleton)
        if found and found[0][0] >= self._weak and found[-1][0] >= self._weak and self._none(found, data):
            found = self._search_strong(skeleton)
        # Dots go with the separators, so a float of 17 digits looks like a card number here.
        if skeleton.find(_DIGITS) >= 0 and card_spans(data, 1):
            return None
        if 64 in data and may_hold_user(data) and USERINFO.search(data):
            return None
        # `37 in data` is a memchr; `b"%" in data` first tries its operand as a number, and fails, for 0.5 µs.
        if (37 in data and _PERCENT.search(data)) or (
            92 in data and (_ESCAPE.search(data) or _BREAK_BEFORE_END.search(data))
        ):
            if found or _riddled(data):
                return None
            plain = _BREAKS.sub(b" ", _unescaped(data))
            if plain != data and (
                self._search(plain.translate(_SKELETON, _SKELETON_DROP) + b":")
                or (may_hold_user(plain) and USERINFO.search(plain.translate(_NO_SPACES)))
            ):
                return None
        if 92 in data and _ESCAPE_IN_KEY.search(data):
            return None
        return found

    def _none(self, found: Found, data: bytes) -> bool:
        """Whether these are weak needles only, in a text without such a value."""
        return all(number >= self._weak for number, _, _ in found) and next(shapes(data), None) is None

    def places(self, data: bytes, found: Found) -> list[int]:
        """Offsets in the bytes, or in the same string of a JSON document, of what was found; a guess, quickly, where
        the same word stands more than once: who uses it must look at the rest again."""
        lower = data.lower()
        places: list[int] = []
        for number, start, _ in found:
            # The word as it is usually spelled is found by `find` in a tenth of the time.
            place = lower.find(self._spelled[number], places[-1] + 1 if places else 0)
            places.append(place if place >= 0 else _offset(data, start))
        return places

    def suspicious(self, text: bytes) -> bool:
        """Whether a sensitive name stands before a separator in this text, or a value that is a secret by its form."""
        return self.hit(text) and self.reveals(text)

    def reveals(self, text: bytes) -> bool:
        """`suspicious` of a text that had a hit."""
        if self._reveals(text):
            return True
        if 37 in text or 92 in text:
            if _riddled(text):
                return True
            plain = _BREAKS.sub(b" ", _unescaped(text))
            return plain != text and self._reveals(plain)
        return False

    def _reveals(self, text: bytes) -> bool:
        skeleton = text.translate(_SKELETON, _SKELETON_DROP)
        return (
            self.names_value(text)
            or ((may_hold_user(text) or bool(self._shapes(skeleton))) and next(shapes(text), None) is not None)
            or (skeleton.find(_DIGITS) >= 0 and bool(card_spans(text, 1)))
            or next(self.said_in(text), None) is not None
        )

    def names_value(self, text: bytes) -> bool:
        """Whether a sensitive name stands before what separates it from its value, in the same clause."""
        return next(self._stems_in(self.text_form(text)), -1) >= 0 or next(self._short_in(text), -1) >= 0

    def _short_in(self, text: bytes) -> Iterator[int]:
        """Offsets of the short words that stand before a separator."""
        # The scan is twenty times as fast as the expression.
        return _short_in(text, self.look) if self._short(text.translate(_SKELETON, _SKELETON_DROP)) else iter(())

    def look(self, size: int, times: int = 1) -> None:
        """So many bytes are about to be looked at, so many times. Counted by `redaction_work` alone."""

    def begin_noting(self) -> None:
        """A body was left out. See `redaction_work`."""

    def _stems_in(self, form: bytes) -> Iterator[int]:
        """Offsets in the text form of stems that a separator follows within 40 characters of their clause."""
        tail = _TAIL.match
        found = self._stems(form)
        self.look(len(form) + 128 * len(found))
        for _, start, end in found:
            if tail(form, end):
                yield start

    def said_in(self, text: bytes) -> Iterator[tuple[int, int]]:
        """(end of the name, begin of the value) of `Your password is hunter2` and `("password", "x")`."""
        for number, m in enumerate(_SAYS.finditer(text)):
            before = text[max(0, m.start() - 24) : m.start()].rpartition(b"\n")[2]
            if number > _SAYS_MAX or self.names_value(before + b":"):
                yield m.start(), m.start(1)
        yield from self._quoted_pairs(text)
        for number, m in enumerate(_FLAG.finditer(text)):
            if number > _SAYS_MAX or self.names_value((m[1] or m[2]) + b":"):
                yield max(m.end(1), m.end(2)), m.end()

    def _quoted_pairs(self, text: bytes) -> Iterator[tuple[int, int]]:
        """(end of the name, begin of the value) of names and values in quotes. The words are scanned together: one by
        one, 13,000 of them took 80 ms."""
        words = [m for m in _QUOTED_WORD.finditer(text)]  # noqa: C416 - list() would hold the interpreter for all
        if not words:
            return
        self.look(128 * len(words))
        listed = b":\n".join([m[1] for m in words]) + b":"
        form = self.text_form(listed)
        lines = {*_lines_of(form, self._stems_in(form)), *_lines_of(listed, self._short_in(listed))}
        for number, line in enumerate(sorted(lines)):
            word = words[line]
            if number > _SAYS_MAX:  # 4 µs each
                yield word.end(1), word.end()
            elif paired := _PAIRED.match(text, word.end()):
                yield word.end(1), paired.end()

    def lines_hit(self, text: bytes, limit: int) -> list[int] | None:
        """Numbers of the lines (between line feeds) on which `suspicious` is true; None: more than `limit`."""
        found: set[int] = set()
        form = self.text_form(text)
        shaped = may_hold_user(text) or self._shapes(text.translate(_SKELETON, _SKELETON_DROP))
        for searched, starts in (
            (form, self._stems_in(form)),
            (text, self._short_in(text)),
            (text, (start for start, _ in self.said_in(text))),
            (text, (start for start, _ in shapes(text)) if shaped else ()),
            (text, (start for start, _ in card_spans(text))),
        ):
            for line in _lines_of(searched, starts):
                found.add(line)
                if len(found) > limit:
                    return None
        if 37 in text or 92 in text:
            if _riddled(text):
                return None
            self.look(128 * text.count(b"\n"))
            for line, raw in enumerate(text.split(b"\n")):
                if (b"%" in raw or b"\\" in raw) and line not in found and self.suspicious(raw):
                    found.add(line)
        return sorted(found) if len(found) <= limit else None

    @staticmethod
    def text_form(text: bytes) -> bytes:
        return text.replace(b"?=", b"=").translate(_TEXT, _TEXT_DROP)


def _without_index(name: str) -> str:
    """`card.pins` of `card.pins[0].1`."""
    at = len(name.rstrip("0123456789.[]"))
    while at < len(name) and name[at] not in ".[":
        at += 1
    return name[:at]


def _lines_of(text: bytes, offsets: Iterable[int]) -> Iterator[int]:
    """For each offset, how many line feeds stand before it."""
    line = at = 0
    for offset in offsets:
        if offset < at:  # they need not come in order
            line = at = 0
        line += text.count(b"\n", at, offset)
        at = offset
        yield line


def _offset(data: bytes, number: int) -> int:
    """Where the byte stands that is this one of the skeleton's, by bisection: twice the length is translated. Or
    another byte before it with no quote between: what the caller wants is the string."""
    low, high = 0, len(data)
    while high - low > 1:
        if high - low <= 32 and data.find(b'"', low, high) < 0:
            break
        middle = (low + high) >> 1
        kept = len(data[low:middle].translate(None, _SKELETON_DROP))
        if number < kept:
            high = middle
        else:
            number -= kept
            low = middle
    return low


def _normal(name: bytes) -> str:
    return name.translate(_NORMAL, _IGNORED).decode("latin-1")


def _skeletons(name: str) -> list[str]:
    """All skeletons of a name in any case: each a of it is dropped or, as a capital, kept."""
    parts = name.lower().split("a")[: _A_MAX + 1]
    plain = [part.encode("latin-1", "ignore").translate(_SKELETON, _SKELETON_DROP).decode("latin-1") for part in parts]
    return ["".join(map(str.__add__, plain, (*marks, ""))) for marks in product(("", "\x01"), repeat=len(plain) - 1)]


def _shapes_of(values: Iterable[str]) -> list[str]:
    """Skeletons of shapes."""
    return [
        s
        for value in values
        for s in (
            _skeletons(value)
            if value in ANY_CASE
            else [value.encode().translate(_SKELETON, _SKELETON_DROP).decode("latin-1")]
        )
    ]
