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
from typing import Any

__all__ = [
    "CLEAN", "CODE", "LABEL", "LOOSE", "REDACTED", "SENSITIVE", "SEPARATORS", "STEMS", "USERINFO", "VALUED",
    "VALUE_PATTERN", "Found", "Names", "card_spans",
]  # fmt: skip

REDACTED = "[REDACTED]"

CLEAN, SENSITIVE, LOOSE, CODE, LABEL, VALUED = range(6)

SEPARATORS = b"-_. []()'\"/@;+<*#!?|~$^`\\{\t"
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
# What may stand before one of them without a mark between: HTTP makes `userPin` `userpin`.
_BEFORE_SHORT = (
    "(?:user|card|login|account|bank|atm|sim|device|security|access|new|old|current|my|client|db|database|smtp|ftp|ssh"
    "|admin|root|mail|email|proxy|sms|mfa|totp|connect|php|express|x|is)?"
)
_BEFORE_SHORT_ALONE = re.compile(_BEFORE_SHORT)
_SHORT_JOINED = re.compile(f"{_BEFORE_SHORT}(?:{'|'.join(sorted(_SHORT))})")
_HARMLESS = re.compile(
    r"secretar(?:y|ies|iat)|tokeni[sz](?:er|ers|ation|e|ed)|tokentype(?:hint)?|passwordless|signaturealgorithm"
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
    "type", "id", "blockid", "title", "question",
})  # fmt: skip
_VALUED = frozenset({
    "value", "values", "input", "inputvalue", "ctx", "context", "val", "data", "default", "current", "previous",
    "old", "new", "oldvalue", "newvalue", "from", "to", "before", "after", "rejectedvalue", "attemptedvalue",
    "invalidvalue", "actual", "received", "given", "content", "text", "v", "string", "stringvalue", "instance", "msg",
    "message", "detail", "answer", "variables",
})  # fmt: skip

# The skeleton: lower case, digits as 0, what ends a name as ':', what separates inside one and a, e dropped. It is 40 %
# shorter than the bytes, and its needles have few and rare letters, which is what makes `str.find` skip.
_ENDS = b",:=>]}%&\n\r"
_FROM = string.ascii_uppercase.encode() + b"123456789" + _ENDS
_TO = string.ascii_lowercase.encode() + b"0" * 9 + b":" * len(_ENDS)
_SKELETON = bytes.maketrans(_FROM, _TO)
_KEPT = bytes(c for c in _IGNORED if c not in _ENDS)
_SKELETON_DROP = bytes(set(_KEPT) | set(b"aeAE"))
# What no stem covers: OAuth's `grant_type` (beside it `code` is a secret), the begin of a JWT.
_NEEDLES_MORE = ("grnttyp", "yj", "inputvlu:")
_DIGITS = b"0" * 15
_SHAPES = ("yj", "brr", "privtky", "inputvlu:")  # without one of them VALUE_PATTERN finds nothing

_NORMAL = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())

# For text: ':' is what stands between a name and its value, ',' what begins a new clause; separators inside names
# dropped.
_TEXT_FROM = string.ascii_uppercase.encode() + b"=>" + b";&{}()<?|\r\n"
_TEXT_TO = string.ascii_lowercase.encode() + b"::" + b",,,,,,,,,,\n"
_TEXT = bytes.maketrans(_TEXT_FROM, _TEXT_TO)
_TEXT_DROP = bytes(c for c in _IGNORED if c not in b";&{}()<?|")

# Only where a word begins: tried at each `eyJ` inside a run of them, it would be quadratic.
_JWT = rb"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"
# `https://user:password@host`, and a long word before the `@` without a colon, which is a token. A run ends at a slash,
# so that none is looked at twice.
USERINFO = re.compile(rb":\\{0,4}/\\{0,4}/(?:[^/?#\s<>\"@:]*+:|(?=[^/?#\s<>\"@:]{16}))[^/?#\s<>\"]+@")
VALUE_PATTERN = re.compile(
    _JWT + rb"|\b(?i:bearer)[ +]{1,4}[A-Za-z0-9._~+/=-]{8,}"
    rb"|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}-----|\Z)"
    # The text of a pydantic error repeats what was refused.
    rb"|input_value=[^\n]*?(?=, input_type=|\n|\Z)|" + USERINFO.pattern
)
# The look behind stands after the first digit: before it, the search would try at each byte.
_CARD = re.compile(rb"[2-6](?<![0-9A-Za-z.-].)(?:(?:[ +-]|%20)?[0-9]){14,15}(?![0-9A-Za-z])")
_CARDS_MAX = 1_000
_TWICE = bytes.maketrans(b"0123456789", b"0246813579")
_CARD_ISSUER = re.compile(rb"(?:4|5[1-5]|2[2-7]|6(?:011|4|5|2)|35)[0-9]+")
# In text a short word counts when it is one by itself (`pin: 1`, `card_pin=1`, `userPin=1`); what stands before it is
# looked at after the match.
_TAIL = re.compile(rb"[^:,\n]{0,40}+:")

# Of a run of backslashes only the first may begin a match: tried at each, 60,000 of them took seconds.
_ESCAPE = re.compile(rb"(?<!\\)\\++u00([2-7][0-9a-fA-F])")
# Line breaks that were escaped, once or more: without them `\\npin` would be another word.
_BREAKS = re.compile(rb"(?<!\\)\\++[nrtbf]")
# Characters that no name is compared with, escaped inside a key: "pass\\tword".
_ESCAPE_IN_KEY = re.compile(rb"\\(?:[nrtbf/\"\\]|u[0-9a-fA-F]{4})[^\"\\]{0,60}+\"[ \t\r\n]*+:")
_BREAK_BEFORE_END = re.compile(rb"\"[ \\]{0,20}\\[nrtbf][ \\nrtbf]{0,40}[:=>]")
_PERCENT = re.compile(rb"%(?:25)*([2-7][0-9a-fA-F])")
_ESCAPES_MAX = 2000
_ASCII = {b"%02x" % c: bytes((c,)) for c in range(128)} | {b"%02X" % c: bytes((c,)) for c in range(128)}
_CACHEABLE = re.compile(rb"[A-Za-z_.\-]{1,40}[0-9]{0,2}")
_CACHE_MAX = 2048

Found = list[tuple[int, int, int]]
"""(number of the needle or -1, begin, end) in the skeleton."""


def _decisive(needles: Iterable[str]) -> list[str]:
    """Without those that contain another one."""
    unique = list(dict.fromkeys(needles))
    return [w for w in unique if not any(o != w and o in w for o in unique)]


def _searcher(needles: Iterable[str]) -> Callable[[bytes], list[tuple[int, int, int]]]:
    """A function of bytes that answers (number, start, end) of where needles stand in them, not overlapping. number:
    -1 when it does not know.

    `ahocorasick_rs` is used when it happens to be installed: 2 µs a kB where the regular expression takes 20. Both find
    something in the same bytes."""
    wanted = _decisive(needles)
    try:
        from ahocorasick_rs import BytesAhoCorasick
    except ImportError:
        found = re.compile(_alternation(wanted).encode("latin-1")).finditer
        return lambda data: [(-1, m.start(), m.end()) for m in found(data)]
    search: Callable[[bytes], list[tuple[int, int, int]]]
    search = BytesAhoCorasick([w.encode("latin-1") for w in wanted]).find_matches_as_indexes
    return search


def _alternation(words: Iterable[str], *, fold: bool = False) -> str:
    """A regular expression for any of the words that shares their prefixes: four times as fast as `a|b|c`.

    fold: in any case, which is faster than the flag."""
    root: dict[str, Any] = {}
    for word in words:
        node = root
        for c in word:
            node = node.setdefault(c, {})
        node[""] = {}

    def expression(node: dict[str, Any]) -> str:
        if "" in node:  # the shorter of two words is enough
            return ""
        tails: dict[str, list[str]] = {}
        for c, child in node.items():
            tails.setdefault(expression(child), []).extend({c, c.upper()} if fold else {c})
        parts = [
            (re.escape(cs[0]) if len(cs) == 1 else "[" + "".join(map(re.escape, sorted(cs))) + "]") + tail
            for tail, cs in tails.items()
        ]
        return parts[0] if len(parts) == 1 else "(?:" + "|".join(parts) + ")"

    return expression(root)


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


_SHORT_IN_TEXT = re.compile(
    (
        _alternation(_SHORT | _SHORT_LOOSE, fold=True) + r"(?:[\"'\s\])\\]{0,8}+(?:is)?|[\"'][^:=>,;&<\n]{1,40}+)[:=>]"
    ).encode()
)
_LETTERS_BEFORE = re.compile(rb"[A-Za-z]{0,12}\Z")


def _short_in(text: bytes) -> Iterator[int]:
    """Offsets of the short words that stand before a separator."""
    for m in _SHORT_IN_TEXT.finditer(text):
        start = m.start()
        before = _LETTERS_BEFORE.search(text, max(0, start - 12), start)
        letters = before[0] if before else b""
        camel = text[start : start + 1].isupper() and letters[-1:].islower()
        if not letters or camel or _BEFORE_SHORT_ALONE.fullmatch(letters.decode().lower()):
            yield start


def card_spans(data: bytes, limit: int = _CARDS_MAX) -> list[tuple[int, int]]:
    """Spans of card numbers: 15 or 16 digits of a known issuer whose last is the Luhn digit of the others.

    At most `limit` of them; what follows `_CARDS_MAX` numbers that could be some is taken for one."""
    spans = []
    for number, m in enumerate(_CARD.finditer(data)):
        if number >= _CARDS_MAX:
            spans.append((m.start(), len(data)))
            break
        digits = m[0].replace(b"%20", b"").translate(None, b" +-")
        amex = len(digits) == 15
        if (digits.startswith((b"34", b"37")) if amex else _CARD_ISSUER.match(digits)) and _luhn(digits):
            spans.append(m.span())
            if len(spans) >= limit:
                break
    return spans


def _may_hold_user(data: bytes) -> bool:
    """Whether USERINFO is worth a search: two searches for a byte and three."""
    return 64 in data and (data.find(b":/") >= 0 or data.find(b":\\") >= 0)


def _luhn(digits: bytes) -> bool:
    # A sum over bytes is 8 times as fast as a loop over digits: 64 KiB of card numbers took 75 ms.
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_TWICE)) - 48 * len(digits)) % 10 == 0


class Names:
    """The built-in names and the operator's. One instance per builder; not thread safe."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._own = frozenset(n for n in (_normal(name.encode()) for name in more) if n)
        skeletons = [_skeleton(n.encode()) for n in self._own]
        # A name without a consonant leaves no needle: then every scan is an alarm, which is slow and right.
        self._always = any(not s for s in skeletons)
        short = [_skeleton(w.encode()) for w in sorted(_SHORT | _SHORT_LOOSE)]
        # What ends the name; in HTML the next attribute does: name="pin" value="1234".
        words = [w + end for w in short for end in (":", "vlu", "typ")]
        self._short = _searcher(words)
        self._shapes = _searcher(_SHAPES)
        stems = {_skeleton(s.encode()): s.encode() for s in STEMS}
        needles = _decisive([*stems, *words, *_NEEDLES_MORE, *skeletons])
        self._search = _searcher(needles)
        self._spelled = [stems.get(needle, b"\0") for needle in needles]
        self._stems = _searcher([*STEMS, *self._own])
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
        if _COUNTER.fullmatch(normal) and normal not in ("token", "tokens"):
            return LOOSE
        rest = _HARMLESS.sub(",", normal)
        if any(stem in rest for stem in STEMS):
            return SENSITIVE
        words = _WORD.findall(name)
        last = words[-1].lower() if words else ""
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
        skeleton = data.translate(_SKELETON, _SKELETON_DROP)
        if self._always:
            return None
        found = self._search(skeleton)
        # Dots go with the separators, so a float of 17 digits looks like a card number here.
        if skeleton.find(_DIGITS) >= 0 and card_spans(data, 1):
            return None
        if _may_hold_user(data) and USERINFO.search(data):
            return None
        # `37 in data` is a memchr; `b"%" in data` first tries its operand as a number, and fails, for 0.5 µs.
        if (37 in data and _PERCENT.search(data)) or (
            92 in data and (_ESCAPE.search(data) or _BREAK_BEFORE_END.search(data))
        ):
            if found or _riddled(data):
                return None
            plain = _BREAKS.sub(b" ", _unescaped(data))
            if plain != data and (
                self._search(plain.translate(_SKELETON, _SKELETON_DROP))
                or (_may_hold_user(plain) and USERINFO.search(plain))
            ):
                return None
        if 92 in data and _ESCAPE_IN_KEY.search(data):
            return None
        return found

    def places(self, data: bytes, found: Found) -> list[int]:
        """Offsets in the bytes, or in the same string of a JSON document, of what was found; a guess, quickly, where
        the same word stands more than once: who uses it must look at the rest again."""
        lower = data.lower()
        places: list[int] = []
        for number, start, _ in found:
            # The word as it is usually spelled is found by `find` in a tenth of the time.
            place = lower.find(self._spelled[number], places[-1] + 1 if places else 0) if number >= 0 else -1
            places.append(place if place >= 0 else _offset(data, start))
        return places
        return [_offset(data, start) for _, start, _ in found]

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
            or ((_may_hold_user(text) or bool(self._shapes(skeleton))) and VALUE_PATTERN.search(text) is not None)
            or (skeleton.find(_DIGITS) >= 0 and bool(card_spans(text, 1)))
        )

    def names_value(self, text: bytes) -> bool:
        """Whether a sensitive name stands before what separates it from its value, in the same clause."""
        return next(self._stems_in(self.text_form(text)), -1) >= 0 or next(self._short_in(text), -1) >= 0

    def _short_in(self, text: bytes) -> Iterator[int]:
        """Offsets of the short words that stand before a separator."""
        # The scan is twenty times as fast as the expression.
        return _short_in(text) if self._short(text.translate(_SKELETON, _SKELETON_DROP)) else iter(())

    def _stems_in(self, form: bytes) -> Iterator[int]:
        """Offsets in the text form of stems that a separator follows within 40 characters of their clause."""
        tail = _TAIL.match
        for _, start, end in self._stems(form):
            if tail(form, end):
                yield start

    def lines_hit(self, text: bytes, limit: int) -> list[int] | None:
        """Numbers of the lines (between line feeds) on which `suspicious` is true; None: more than `limit`."""
        found: set[int] = set()
        form = self.text_form(text)
        shaped = _may_hold_user(text) or self._shapes(text.translate(_SKELETON, _SKELETON_DROP))
        shapes = VALUE_PATTERN.finditer(text) if shaped else ()
        for searched, starts in (
            (form, self._stems_in(form)),
            (text, self._short_in(text)),
            (text, (m.start() for m in shapes)),
            (text, (start for start, _ in card_spans(text))),
        ):
            line = at = 0
            for start in starts:
                line += searched.count(b"\n", at, start)
                at = start
                found.add(line)
                if len(found) > limit:
                    return None
        if 37 in text or 92 in text:
            if _riddled(text):
                return None
            for line, raw in enumerate(text.split(b"\n")):
                if (b"%" in raw or b"\\" in raw) and line not in found and self.suspicious(raw):
                    found.add(line)
        return sorted(found) if len(found) <= limit else None

    @staticmethod
    def text_form(text: bytes) -> bytes:
        return text.translate(_TEXT, _TEXT_DROP)


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


def _skeleton(data: bytes) -> str:
    return data.translate(_SKELETON, _SKELETON_DROP).decode("latin-1")
