"""The prefilter: finds where bytes may contain a sensitive name or a known form. Bytes without an alarm pass unchanged.

The bytes are folded one to one (letters to lower case, separators of words to `_`), so positions in the folded bytes
are positions in the original. They are searched once for the words of all tables. Each match is examined at once: a
form is matched at that position; a word is extended to its whole identifier (`prompt_tokens`, `tokenizer`) and dropped
when that is harmless. The remaining matches are the alarms, and only tokens with an alarm are decoded.

Invariants: linear; a false alarm only costs time; every name with at most one separator where the table allows one is
found; percent, JSON or HTML escapes of letters are alarms too.
"""

from __future__ import annotations

import re
import string
from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import product
from json.encoder import encode_basestring_ascii as escape_unicode

from .alarms import BASE64, CARD, CODE_KEY, COMMAND, ESCAPE, FORM, NAME, Alarm
from .budget import Budget
from .forms import at_trigger, aws_secrets, cards, may_hold_user, userinfo
from .multisearch import Found, searcher
from .names import COUNT, NO, STEMS, YES, Names
from .surroundings import nested_secret, sent_code
from .tables import COMMANDS, FORMS, Form, words

__all__ = ["Scan"]

_OTHERS = bytes(c for c in range(128) if not chr(c).isalnum())
_FOLD = bytes.maketrans(
    string.ascii_uppercase.encode() + string.digits.encode() + _OTHERS,
    string.ascii_lowercase.encode() + b"0" * 10 + b"_" * len(_OTHERS),
)
# Letters, digits and what may stand inside an identifier, for the search for its ends.
_IDENT = bytes(97 if chr(c).isalnum() or c in b"_-$" or c > 127 else 32 for c in range(256))
_IDENT_MAX = 48
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_BLANKS = bytes.maketrans(b"\t\r\n_-+\"'\\", b"         ")
# Full-width colon, equals and comma, ideographic blank, dashes; what says "is" in Chinese, Japanese and Korean.
_WIDE_SIGN = re.compile(
    rb"\xef\xbc[\x8c\x9a\x9d]|\xe3\x80[\x80-\x82]|\xe2\x80[\x93\x94]"
    rb"|\xe3\x81\xaf|\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xeb\x8a\x94|\xec\x9d\x80"
)
_COUNTED = re.compile(
    rb"\\{0,3}[\"']?[ \t]{0,3}[:=][ \t]{0,3}\\{0,3}[\"']?[0-9]{1,9}(?:\.[0-9]{1,6})?\\{0,3}[\"']?(?![0-9A-Za-z.])"
)
_FOREIGN_ESCAPE = re.compile(rb"_u[0-9a-f]{4}")  # folded
_ESCAPE_LETTERS = frozenset(b"nrtbf")
_IN_BASE64 = (
    "password",
    "passwd",
    "Password",
    "secret",
    "token",
    "api_key",
    "apiKey",
    "client_",
    "private_key",
    "PASSWORD",
    "SECRET",
    "TOKEN",
    "API_KEY",
)
# Of a run of backslashes only the first may begin a match: tried at each, 60,000 of them took seconds.
_PERCENT = re.compile(rb"%(?:25)*(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|2[dDeE])")
_UNICODE = re.compile(rb"(?<!\\)\\+u00[2-7][0-9a-fA-F]")
_ENTITY = re.compile(rb"&#[xX0-9]")
_ESCAPE_IN_KEY = re.compile(rb"\\(?:[nrtbf/\"\\]|u[0-9a-fA-F]{4})[^\"\\]{0,60}\"[ \t\r\n]{0,20}:")
# A digit of it reads as one of the card number that follows.
_ESCAPED_BEFORE = re.compile(rb"\\u[0-9a-fA-F]{4}[2-6][0-9]")
_CODE = re.compile(rb"(?i:code|kty)(?:\\{0,3}[\"']|&quot;)?[ \t\r\n]{0,20}[:=]")
_IDENT_ENDS = frozenset(bytes((c,)) for c in range(256) if _IDENT[c] == 97)
_CARD_NUMBER = (b"0" * 15, b"0000_0000_0000", b"0000_000000_0000")
_OAUTH_BESIDE = (b"redirect", b"grant", b"verifier", b"client", b"state", b"scope", b"iss")
_ESCAPES_MAX = 3_000
# No form of a secret is shorter: the built-in ones, an operator's.
FORM_MIN, OWN_FORM_MIN = 16, 8
# Steps: of a call, and of a name that the cache does not know.
_CALL = 8
_IN_QUOTES, _KEY_IN_QUOTES = object(), object()
_MISS = 12


def _is_foreign(needle: bytes) -> bool:
    """Whether it cannot occur in a text that is ASCII and has no escapes."""
    return not needle.isascii() or _FOREIGN_ESCAPE.search(needle) is not None


def _separated(word: str) -> Iterator[bytes]:
    """`api_key` and `apikey`."""
    parts = word.split("_")
    for marks in product(("", "_"), repeat=len(parts) - 1):
        joined = "".join(part + mark for part, mark in zip(parts, (*marks, ""), strict=True)).encode()
        yield joined.translate(_FOLD)
        upper = joined.decode().upper().encode().translate(_FOLD)
        if not joined.isascii():
            yield upper  # CONTRASEÑA: only ASCII is folded
            yield joined.decode().title().encode().translate(_FOLD)
            yield joined.decode().capitalize().encode().translate(_FOLD)


def _own(name: str) -> Iterator[bytes]:
    """An operator's name, with a separator in any one place; one that is not ASCII also in capital letters."""
    glued = "".join(c for c in name.lower() if c.isalnum())
    for spelled in {name, name.lower()} | (
        set() if name.isascii() else {name.upper(), name.title(), name.capitalize()}
    ):
        yield spelled.encode().translate(_FOLD)
    for at in range(len(glued)):
        joined = glued[:at] + "_" * (at > 0) + glued[at:]
        yield joined.encode().translate(_FOLD)
        if not name.isascii():
            yield joined.upper().encode().translate(_FOLD)
            yield joined.capitalize().encode().translate(_FOLD)


def _in_base64(word: str) -> Iterator[bytes]:
    """Byte strings that occur in the base64 of any text with the word: at three offsets, whole characters only."""
    for offset in range(3):
        code = b64encode(b"\0" * offset + word.encode() + b"\0" * (-(offset + len(word)) % 3)).rstrip(b"=")
        yield code[(0, 2, 3)[offset] : len(code) - (2 if (offset + len(word)) % 3 else 0)]


class Scan:
    """One per redactor; keeps the kinds of identifiers, by the names' own rule of what may be kept."""

    def __init__(self, names: Names, own: Iterable[str] = (), own_forms: tuple[Form, ...] = ()) -> None:
        self.names = names
        self.has_own_forms = bool(own_forms)
        self.form_min = OWN_FORM_MIN if own_forms else FORM_MIN
        forms = (*FORMS, *own_forms)
        triggers: dict[bytes, list[Form]] = {}
        needles: dict[bytes, tuple[int, object]] = {}
        self._bare: list[
            tuple[re.Pattern[bytes], Form]
        ] = []  # triggers without a letter, which would be found in any list of numbers
        for word in STEMS:
            for spelling in _separated(word):
                needles[spelling] = NAME, None
            if not word.isascii():
                spelled = frozenset(escape_unicode(w)[1:-1].encode() for w in (word, word.title(), word.upper()))
                for code in spelled:
                    needles[code.translate(_FOLD)] = ESCAPE, spelled
        for word in (*words("short"), *words("ambiguous")):
            for end in ("_", "s_", "0", "value", "hash"):
                needles[(word + end).encode().translate(_FOLD)] = NAME, None
        for name in own:
            for spelling in _own(name):
                needles[spelling] = NAME, None
        for word in ("code", "código", "код", "Код"):
            needles[word.encode().translate(_FOLD) + b"_"] = CODE_KEY, None
        needles[b"kty_"] = CODE_KEY, None
        needles[b"_key__"] = CODE_KEY, _KEY_IN_QUOTES
        for word in words("made"):  # the same
            for spelling in _separated(word):
                needles[b"_" + spelling + b"__"] = NAME, _IN_QUOTES
        for digits in _CARD_NUMBER:
            needles[digits] = CARD, None
        for number, command in enumerate(COMMANDS):
            for command_word in command.words:
                folded = command_word.translate(_FOLD)
                is_name = any(folded.find(needle) >= 0 for needle, (what, _) in needles.items() if what == NAME)
                asked = command_word.lower().translate(_BLANKS)
                needles[folded] = COMMAND, (number, asked, command.inside, is_name)
        for word in _IN_BASE64:
            for code in _in_base64(word):
                needles[code.translate(_FOLD)] = BASE64, code
        needles[b"w0si"] = BASE64, b"W3si"  # [{"
        for form in forms:
            for trigger in form.triggers:
                folded = trigger.translate(_FOLD)
                if any(97 <= c <= 122 for c in folded):
                    triggers.setdefault(folded, []).append(form)
                else:
                    self._bare.append((re.compile(re.escape(trigger)), form))
        for folded, found in triggers.items():  # `private key` and `bearer` are names, too
            is_name = any(names.kind(t.strip(b"- ")) == YES for form in found for t in form.triggers)
            needles.setdefault(folded, (NAME if is_name else FORM, None))
        # Words in other letters, as they are and as JSON escapes them, stand last: most bodies hold none of them.
        ordered = sorted(needles, key=_is_foreign)
        needles = {needle: needles[needle] for needle in ordered}
        # By needle: what it is, what must stand there, and the forms of which a trigger begins it.
        self._told = [
            (
                what,
                told,
                tuple(form for trigger, found in triggers.items() if needle.startswith(trigger) for form in found),
            )
            for needle, (what, told) in needles.items()
        ]
        # Triggers that a name's word may begin in: `berlin_api_key` holds the trigger `lin_api_`.
        begun = {needle[:size] for needle, (what, _) in needles.items() if what == NAME for size in range(1, 13)}
        self._shadows = frozenset(
            number
            for number, (needle, (what, _)) in enumerate(needles.items())
            if what in (FORM, COMMAND)
            and any(needle[at] != 95 and needle[at:][:12] in begun for at in range(1, len(needle)))
        )
        # Where a letter before the trigger says that it is none: `info ` is no token of a service with `nfo_`.
        self._edged = frozenset(
            number
            for number, (_, _, found) in enumerate(self._told)
            if found and all(form.edge and not form.back for form in found)
        )
        # What a trigger is before it is folded: `confirm ` is no `confirm/`.
        self._exact = {
            number: frozenset(
                trigger.lower() for form in found for trigger in form.triggers if trigger.translate(_FOLD) == needle
            )
            for number, (needle, (_, _, found)) in enumerate(zip(ordered, self._told, strict=True))
            if found
            and b" " not in b"".join(trigger for form in found for trigger in form.triggers)
            and all(any(trigger.translate(_FOLD) == needle for trigger in form.triggers) for form in found)
        }
        self._search_all = searcher(ordered)
        self._search_ascii = searcher([needle for needle in ordered if not _is_foreign(needle)])

    def alarms(self, data: bytes, budget: Budget, *, cut: bool = False) -> list[Alarm]:
        """In their order. cut: a form at the end may be unfinished. Raises TooCostly."""
        # A name may be the last word.
        folded = data.translate(_FOLD) + b"_"
        out: list[Alarm] = []
        plain = data.isascii() and (92 not in data or data.find(b"\\u") < 0)
        search = self._search_ascii if plain else self._search_all
        found = search(folded)
        cards_here = cut
        if found:
            cards_here = self._asked(data, folded, found, out, budget, cut) or cut
        more = len(out)
        if 47 in data:
            self._without_letter(data, budget, out)
        if cards_here:
            out += [Alarm(s, e, FORM) for s, e in cards(data, escaped=True, cut=cut)]
            if data.find(b"\\u") >= 0:
                out += [Alarm(m.start(), m.end(), ESCAPE) for m in _ESCAPED_BEFORE.finditer(data)]
        if budget.aws:
            out += [Alarm(s, e, FORM) for s, e in aws_secrets(data)]
        if (64 in data or cut) and may_hold_user(data):
            for start, end in userinfo(data, cut=cut):
                budget.spend(1)  # as it comes: thousands of them would be paid for when it is too late
                out.append(Alarm(start, end, FORM))
        if 37 in data and (data.find(b"%2F%2F") >= 0 or data.find(b"%2f%2f") >= 0):
            out += _escaped_users(data)
        if 37 in data or 92 in data or 38 in data:
            out += _escapes(data)
        if len(out) > more:
            out.sort(key=_in_order)
        budget.spend(_CALL + (len(data) >> 7) + len(out) - more)
        return out

    def _without_letter(self, data: bytes, budget: Budget, out: list[Alarm]) -> None:
        for trigger, form in self._bare:
            for m in trigger.finditer(data):
                budget.spend(4)
                if (span := at_trigger(form, data, m.start())) is not None:
                    out.append(Alarm(*span, FORM))

    def _formed(
        self, forms: tuple[Form, ...], data: bytes, at: int, budget: Budget, cut: bool
    ) -> tuple[int, int] | None:
        """The span of the first of these forms that matches here."""
        for form in forms:
            span = at_trigger(form, data, at, cut=cut)
            if span is not None:
                budget.aws = budget.aws or form.name.startswith("aws access")
                return span
            if form.longest:
                budget.spend(form.longest >> 7)
        return None

    def _shadowed(self, number: int, folded: bytes, start: int, end: int) -> tuple[int, int, int, object] | None:
        """The word of a name that begins inside of what was found here, and is none; None."""
        again = self._search_all(folded[start + 1 : end + _IDENT_MAX]) if number in self._shadows else ()
        if not again or again[0][1] + start + 1 >= end:
            return None
        found, begin, stop = again[0]
        what, told, _ = self._told[found]
        return (start + 1 + begin, start + 1 + stop, what, told) if what == NAME and told is None else None

    def _asked(self, data: bytes, folded: bytes, found: Found, out: list[Alarm], budget: Budget, cut: bool) -> bool:
        """Adds to `out` those that are none of a harmless kind. Returns whether a card number may stand there."""
        done = spent = 0
        card = unsorted = False
        codes: list[Alarm] = []
        misses = self.names.misses
        for number, start, end in found:
            if start < done:
                continue
            spent += 2
            if spent > 100:
                budget.spend(spent + _MISS * (self.names.misses - misses))
                spent, misses = 0, self.names.misses
            what, told, forms = self._told[number]
            if forms:
                inside = number in self._exact and data[start:end].lower() not in self._exact[number]
                if not inside and number in self._edged and start:
                    inside = data[start - 1] in _WORD and data[start - 2] != 92
                span = None if inside else self._formed(forms, data, start, budget, cut)
                spent += 4 if span is not None else 0 if inside else 1
                if span is not None:
                    out.append(Alarm(*span, FORM))
                    done = span[1]
                    continue
                if forms[0].name == "json web token":
                    out.append(Alarm(start, end, BASE64))  # of a JSON document
                if what == FORM:
                    overlapping = self._shadowed(number, folded, start, end)
                    if overlapping is None:
                        continue
                    start, end, what, told = overlapping
                end = start + len(folded[start:end].rstrip(b"_"))
            if what == CARD:
                card = True
                continue
            if told is _KEY_IN_QUOTES:  # the first of an object in an array is reported at once
                if data[start - 1] == 123 and data[start - 2] in b",[":
                    continue
                if data[start] == 34 == data[start + 4]:
                    span = nested_secret(data, start + 1, start + 4, self.names)
                    if span is not None:
                        out.append(Alarm(*span, FORM))
                continue
            if told is _IN_QUOTES:
                if data[start] != 34 or data[end - 2] != 34:
                    continue
                start, end = start + 1, end - 2
            if what == CODE_KEY:
                m = None if data[start - 1 : start] in _IDENT_ENDS else _CODE.match(data, start)
                if m is not None and data[start] | 32 == 107:  # k
                    out.append(Alarm(start, m.end(), CODE_KEY))
                elif m is not None:
                    codes.append(Alarm(start, m.end(), CODE_KEY))
                sent = sent_code(data, start) if data[end - 1 : end] != b"=" else None
                if sent is None and data[start - 1 : start] == b'"' == data[start + 4 : start + 5]:
                    sent = nested_secret(data, start, start + 4, self.names)
                if sent is not None:
                    out.append(Alarm(*sent, FORM))
                    unsorted = True
                continue
            if what == ESCAPE:  # a name in other letters, as JSON escapes it
                assert isinstance(told, frozenset)
                if data[start:end].lower() in told:
                    out.append(Alarm(start, end, ESCAPE))
                continue
            if what == BASE64:
                if data[start:end] == told:
                    out.append(Alarm(start, end, BASE64))
                continue
            if what == COMMAND:
                assert isinstance(told, tuple)
                command, word, inside, is_name = told
                if data[start:end].lower().translate(_BLANKS) == word and (
                    inside
                    or word[:1] == b" "
                    or _ident_start(data, start) == start
                    or not data[start - 1 : start].isalnum()
                ):
                    out.append(Alarm(_ident_start(data, start) if inside else start, end, COMMAND, command))
                overlapping = None if is_name else self._shadowed(number, folded, start, end)
                if overlapping is not None:
                    start, end, what, told = overlapping
                elif not is_name:
                    continue
                end = start + len(folded[start:end].rstrip(b"_"))
            # The identifier around the word decides.
            left = _ident_start(data, start)
            if folded[end - 1] == 95:
                end -= 1
            size = data[end : end + _IDENT_MAX].translate(_IDENT).find(b" ")
            right = end + (size if size >= 0 else min(_IDENT_MAX, len(data) - end))
            if not data[left:right].isascii():  # `密码：x`: the sign is no part of the name
                for sign in _WIDE_SIGN.finditer(data, left, right):
                    if sign.end() <= start:
                        left = sign.end()
                    elif sign.start() >= end:
                        right = sign.start()
                        break
            kind = self.names.kind(data[left:right])
            done = right
            if kind == NO or (kind == COUNT and _COUNTED.match(data, right)):
                continue
            out.append(Alarm(left, right, NAME, kind))
        if codes and any(data.find(word) >= 0 for word in _OAUTH_BESIDE):
            out += codes
            unsorted = True
        if unsorted:
            out.sort(key=_in_order)
        budget.spend(spent + _MISS * (self.names.misses - misses))
        return card


def _in_order(alarm: Alarm) -> tuple[int, bool, int]:
    """A command stands before the name that its word is: the name would take it for read (`sshpass `, `auth=(`)."""
    return alarm.start, alarm.what != COMMAND, alarm.end


def _ident_start(data: bytes, at: int) -> int:
    """Where the identifier around this place begins; the letter of an escape (`\\npin`) is no part of it."""
    low = max(0, at - _IDENT_MAX)
    start = low + data[low:at].translate(_IDENT).rfind(b" ") + 1
    return start + 1 if low < start < at and data[start - 1] == 92 and data[start] in _ESCAPE_LETTERS else start


def _escaped_users(data: bytes) -> Iterator[Alarm]:
    """The `@` of URLs with a user that are percent-encoded."""
    at = data.find(b"%40")
    for _ in range(1_000):
        if at < 0:
            break
        low = max(0, at - 300)
        begin = max(data.rfind(b"%2F%2F", low, at), data.rfind(b"%2f%2f", low, at))
        if begin >= 0:
            yield Alarm(begin, at + 3, ESCAPE)
        at = data.find(b"%40", at + 3)


def _escapes(data: bytes) -> list[Alarm]:
    """Letters and digits that are escaped, which may be a name's; at most a few thousand, then everything is one."""
    out: list[Alarm] = []
    for mark, expression in ((37, _PERCENT), (92, _UNICODE), (92, _ESCAPE_IN_KEY), (38, _ENTITY)):
        if mark in data:
            for number, m in enumerate(expression.finditer(data)):
                out.append(Alarm(m.start(), m.end(), ESCAPE))
                if number >= _ESCAPES_MAX:
                    break
    return out
