"""Question one: is this name sensitive? All knowledge is in names.toml; the code splits a name and looks its words up.

A name is decoded, split at separators and capital letters (`userPin`, `user_pin`, `user[pin]`), and numbers at its end
are left out. The kinds:

* NO.
* MADE: a weak word with an unknown one after it (`tokenStore`): only machine-generated values are masked.
* COUNT: `max_tokens`: a text that is not a number is masked.
* TEXT: `session`, `auth`: any text except a count is masked; in an object, its own fields decide.
* MANY: `tokens`: the same, but an object or array that contains a text is masked whole.
* YES: every value except true, false and null is masked.
* CODE: `code`, a secret only beside parameters of OAuth.
* ASKED: `security_questions`: the answers in it, or beside it, are masked.
* QUOTED: never of a name: what an error says of a sensitive field; the values that it quotes are masked.

The cache holds only names (letters, separators, two last digits, numbers between separators as zeros; at most 48
characters, at most 2,048 of them), never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate, pairwise
from urllib.parse import unquote

from .forms import made
from .multisearch import alternation
from .tables import words

__all__ = ["ASKED", "CODE", "COUNT", "MADE", "MANY", "NO", "QUOTED", "TEXT", "YES", "Names", "is_label", "norm"]

NO, MADE, COUNT, TEXT, MANY, YES, CODE, ASKED, QUOTED = range(9)

_KEYS = tuple(f"{word}_key" for word in words("keys"))
STEMS = (*words("strong"), *_KEYS, *words("weak"), *words("questions"))
_FOREIGN_WORD = re.compile(r"[^\W_]+")
# As a name is spelled when it is looked at: without separators, and without the vowel signs of Hindi and Thai.
_STRONG = frozenset("".join(_FOREIGN_WORD.findall(w)) for w in (*words("strong"), *_KEYS))
_QUESTION = re.compile("(?:" + "|".join(w.replace("_", "") for w in words("questions")) + ")s?")
_ANSWERS = frozenset(words("answers"))
_WEAK = frozenset(words("weak"))
_SHORT = frozenset(words("short"))
_MADE_WORDS = frozenset(w.replace("_", "") for w in words("made"))
_AMBIGUOUS = frozenset(words("ambiguous"))
_NEUTRAL, _TAILS, _HEADS, _COUNTERS = (frozenset(words(t)) for t in ("neutral", "tails", "heads", "counters"))
_TRIED = frozenset({"failed", "invalid", "wrong", "existing", "forgotten", "missing"})
_MARKS = frozenset(words("marks"))
_PASSES, _SESSIONS = frozenset(words("passes")), frozenset(words("sessions"))
_STEM = re.compile(alternation(sorted({*_STRONG, *_WEAK})))
_HARMLESS = re.compile(alternation(words("harmless")))
_GLUED = re.compile("(?:" + alternation(words("glued")) + ")(?:" + "|".join(sorted(_SHORT)) + ")")
_NO_PIN = frozenset({"isp", "xpat", "xpass", "jpat"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ESCAPE = re.compile(r"(?<!\\)\\+u00([2-7][0-9a-fA-F])")
_NUMBERED = re.compile(r"-[0-9]{1,9}\Z")  # PIN-12 is a thing, pin_1 and pins[0] are fields
_CACHEABLE = re.compile(rb"[A-Za-z_.\-]{1,40}[0-9]{0,2}")
# A name with one or two numbers in it, each between separators: `SERVICE_12_API_KEY`, `user[3][password]`.
_COUNTED = re.compile(rb"[A-Za-z_.\-\[\]]*[_.\-\[][0-9]{1,6}[_.\-\]][A-Za-z_.\-\[\]]*(?:[_.\-\[][0-9]{1,6}\]?)?")
_WITH_DIGIT = re.compile(rb"(?i:2fa|2_fa|cvv_?2|pass_?[12])")  # words that hold one
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_CACHE_MAX = 2_048
_NAME_MAX = 200
_FIELD_MAX = 60
# `custom:pin`, of Cognito; `clé d'API`, `$_SERVER['PIN']`, and not `password 'tulip'`
_FIELD = re.compile(r"(?:custom:)?(?:[\w .\-\[\]$@/*()#]|(?<=[\w\[])'(?=[\w\]]))+")
_NUMBER_END = re.compile(rb"[0-9]{2}\Z")
_SCHEMES = frozenset((b"bearer", b"Bearer"))  # how a token is sent: `token_type`
_ABOUT = frozenset(words("about"))
_COUNTED_BEFORE = frozenset(
    ("input", "output", "prompt", "completion", "total", "max", "reasoning", "limit", "remaining", "reset")
)
_DIGIT = re.compile(rb"[0-9]")
_ERROR = re.compile(
    "(?:ERR|ERROR|INVALID|WRONG|MISSING|INCORRECT|WEAK|BAD|NO)_[A-Z_]+"
    "|[A-Z_]+_(?:[A-Z]+ED|INVALID|MISSING|INCORRECT|WRONG|WEAK|MISMATCH|EMPTY|(?:TOO_)?(?:SHORT|LONG|WEAK|COMMON)|ERROR)"
)  # `PASSWORD_REUSED`
_LABELS = _STRONG | _WEAK | {"pin", "otp"}
_MENTIONED = _LABELS | {"field"}
_BEFORE_LABELS, _SPEAKING = frozenset(words("before_labels")), frozenset(words("speaking"))
_IN_LABELS = frozenset(words("in_labels"))


def norm(name: str) -> str:
    """A key in the spelling of the lists of labels, columns and values."""
    return name.lower().replace("_", "").replace("-", "")


def is_label(value: bytes) -> bool:
    """Whether a value is what a form says of a field, and no secret: the name of one with a capital (`Mot de passe`,
    `Confirm password`), or a phrase of three words and more that mentions one (`Enter your password`). It has no
    digit."""
    if not 5 < len(value) < 200 or _DIGIT.search(value) or value[:1].islower():
        return False
    text = value.decode("utf-8", "replace")
    words = text.rstrip(".?:*… ").replace("'", "").split()
    if len(words) >= 3:
        words[-1] = words[-1].rstrip("!")  # `Password!` is a password
    low = [word.strip(",.()（）-").lower() for word in words]
    # `Neues Passwort`, `パスワード（確認）`; `PASSWORD_REUSED`
    beside, found = _STEM.subn("", re.sub("[（）]", "", "".join(low)), count=1)
    caseless = text[0].lower() == text[0].upper()
    if found and (beside in _IN_LABELS or (caseless and not beside)) and not text[0].islower():
        return True
    if _ERROR.fullmatch(text) and _STEM.search(text.lower()):
        return True
    if not text[0].isupper() or not all(word.strip(",.'’()-").isalpha() for word in words):
        return False
    if "".join(low) in _LABELS or (low[0] in _BEFORE_LABELS and "".join(low[1:]) in _LABELS):
        return all(word[1:].islower() or word.isupper() for word in words)
    return (
        len(words) >= 3
        and not _SPEAKING.isdisjoint(low)
        and any(word.removesuffix("s") in _MENTIONED for word in (*low, *map("".join, pairwise(low))))
        and all(word[1:] == word[1:].lower() or word.isupper() for word in words)
    )


class Names:
    """The built-in names and the operator's. One per redactor; not thread safe."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self.own = frozenset(n for n in (_glued(name) for name in more) if n)
        self._cache: dict[bytes, int] = {}
        self.misses = 0  # names that were not in the cache, each of which costs about 10 µs, and as much for 32 bytes

    def kind(self, name: bytes) -> int:
        """name: UTF-8 without JSON escapes."""
        known = self._cache.get(name)
        if known is not None:
            return known
        key = name
        if len(name) <= 48 and _COUNTED.fullmatch(name) and not _WITH_DIGIT.search(name):
            key = name.translate(_ZEROS)
            known = self._cache.get(key)
            if known is not None:
                return known
        self.misses += 1 + (min(len(name), _NAME_MAX) >> 5)
        kind = self._kind(name[-_NAME_MAX:].decode("utf-8", "replace"))
        if key is not name or _CACHEABLE.fullmatch(name):
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            self._cache[key] = kind
        return kind

    def _kind(self, name: str) -> int:
        if "%" in name:
            name = unquote(unquote(name))
        if "\\" in name:
            name = _ESCAPE.sub(lambda m: chr(int(m[1], 16)), name)
        if self.own and (
            _glued(name) in self.own or any(_glued(part) in self.own for part in re.split(r"[.\[\]/]+", name))
        ):
            return YES
        # An invisible character makes no other word: `pass<zero width space>word`.
        split = _WORD if name.isascii() else _FOREIGN_WORD
        parts = [word.lower() for word in split.findall(name)]
        while parts and parts[-1].isdigit():  # password1, pins[0]
            parts.pop()
        if not parts:
            return NO
        glued = "".join(parts)
        if glued == "code":
            return CODE
        if glued in _MADE_WORDS or glued + name[-1:] in _MADE_WORDS:  # `key1`: the digit is part of it
            return MADE
        if len(parts) > 1 and parts[0] in _HEADS:
            # `wrong_password` may be a message, `show_password` a switch, or what was typed.
            tried = parts[0] in _TRIED and _STEM.search(glued)
            return MADE if tried or self._kind("_".join(parts[1:])) == YES else NO
        question = _QUESTION.search(glued)
        if question is not None:
            if question.end() == len(glued):
                return ASKED
            return YES if parts[-1] in _ANSWERS else NO
        ends = set(accumulate(map(len, parts), initial=0))
        plain = _HARMLESS.sub(lambda m: "," * len(m[0]) if _is_word(m, ends) else m[0], glued)
        stems = list(_STEM.finditer(plain))
        if stems:
            return _stemmed(name, parts, glued, stems[-1])
        return NO if _NUMBERED.search(name) else _short(parts, glued)

    def is_field(self, text: bytes) -> bool:
        """Whether a string is the name of a sensitive field, and no sentence or title that mentions one."""
        if not 1 < len(text) <= _FIELD_MAX or text in _SCHEMES or self.kind(text) not in (YES, MANY, TEXT):
            return False
        plain = text.decode("utf-8", "replace")
        if not _FIELD.fullmatch(plain):
            return False
        parts = plain.split(" ")
        last = parts[-1].rpartition("/")[2]  # `/users/0/apiKey`
        if len(last) >= 12 and made(last.encode()):
            return False
        return (
            len(parts) == 1
            or _glued(plain) in _STRONG
            or (len(parts) == 2 and not any(part.lower() in _ABOUT for part in parts))
        )

    def is_name(self, value: bytes) -> bool:
        """Whether a value is only the name of a field, as a variable of source code is. What ends in a number is a
        value: `my-secret-1234`."""
        return _NUMBER_END.search(value) is None and self.is_field(value)


def _is_word(harmless: re.Match[str], ends: set[int]) -> bool:
    """Whether it is a word of the name, and does not take the first letters of a sensitive one: `tokenizer_secret`."""
    start, end = harmless.span()
    if end not in ends and any(start < at < end for at in ends):
        return False
    stems = (_STEM.match(harmless.string, at) for at in range(start, end))
    return all(stem is None or stem.end() <= end for stem in stems)


def _glued(name: str) -> str:
    return "".join(_FOREIGN_WORD.findall(name)).lower()


def _stemmed(name: str, parts: list[str], glued: str, stem: re.Match[str]) -> int:
    """A name with one of the strong or weak words in it; the words after the last of them decide."""
    last = parts[-1]
    if last in ("tokens", "token") and len(parts) > 1:
        if parts[0] in _COUNTERS or (last == "tokens" and parts[-2] in _COUNTED_BEFORE):
            return COUNT
        if parts[-2] in _MARKS:
            return NO
    if glued == "tokens":
        return MANY
    tail = glued[stem.end() :]
    if tail in ("", "s"):
        return TEXT if name.startswith("/") else YES  # a document of routes: {"/auth/token": {"post": …}}
    if last == "history":  # how many are remembered, or the old ones
        return COUNT
    if last in _TAILS or tail in _TAILS or tail.lstrip("s") in _TAILS:
        return COUNT if stem[0] == "token" and last in ("used", "count", "limit", "remaining", "usage", "left") else NO
    after = [part for part, end in zip(parts, accumulate(map(len, parts)), strict=True) if end > stem.end()]
    if stem[0] not in _WEAK or tail in _NEUTRAL or all(part in _NEUTRAL for part in after):
        return YES
    return MADE


def _short(parts: list[str], glued: str) -> int:
    last = parts[-1]
    before = parts[-2] if len(parts) > 1 else ""
    if last in _SHORT or glued in _SHORT or (last[-1:] == "s" and last[:-1] in ("pin", "otp")):
        return NO if last == "pass" and before in _PASSES else YES
    if before in _SHORT and last in _NEUTRAL and before != "pass":
        return YES
    if _GLUED.fullmatch(last) and last not in _NO_PIN:
        return YES
    if last in _AMBIGUOUS:
        return TEXT if not before or before in _SESSIONS else MADE
    return NO
