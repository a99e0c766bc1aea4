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
from collections.abc import Iterable
from itertools import islice

from .alarms import BASE64, CARD, CODE_KEY, COMMAND, ESCAPE, FORM, NAME, Alarm
from .budget import MISS, Budget
from .forms import at_trigger, aws_secrets, cards, may_hold_user, userinfo
from .multisearch import Found
from .names import COUNT, NO, YES, Names
from .needles import BLANKS, FOLD, FOLD_TEXT, IN_QUOTES, PARENT, Bare, needles
from .surroundings import code_beside, is_object, may_be_pgpass, nested_key, pgpass, sent_code
from .tables import Form

__all__ = ["NotText", "Scan", "is_text"]

# Letters, digits and what may stand inside an identifier, for the search for its ends.
_IDENT = bytes(97 if chr(c).isalnum() or c in b"_-$" or c > 127 else 32 for c in range(256))
_IDENT_MAX = 48
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
# Full-width colon, equals and comma, ideographic blank, dashes; what says "is" in Chinese, Japanese and Korean.
_WIDE_SIGN = re.compile(
    rb"\xef\xbc[\x8c\x9a\x9d]|\xe3\x80[\x80-\x82]|\xe2\x80[\x93\x94]"
    rb"|\xe3\x81\xaf|\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xeb\x8a\x94|\xec\x9d\x80"
)
_COUNTED = re.compile(
    rb"\\{0,3}[\"']?[ \t]{0,3}[:=][ \t]{0,3}\\{0,3}[\"']?[0-9]{1,9}(?:\.[0-9]{1,6})?\\{0,3}[\"']?(?![0-9A-Za-z.])"
)
_ESCAPE_LETTERS = frozenset(b"nrtbf")
# Of a run of backslashes only the first may begin a match: tried at each, 60,000 of them took seconds.
_PERCENT = re.compile(rb"%(?:25)*(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|2[dDeE])")
_UNICODE = re.compile(rb"(?<!\\)\\+u00[2-7][0-9a-fA-F]")
_ENTITY = re.compile(rb"&#[xX0-9]")
_ESCAPE_IN_KEY = re.compile(rb"\\(?:[nrtbf/\"\\]|u[0-9a-fA-F]{4})[^\"\\]{0,60}\"[ \t\r\n]{0,20}:")
# A digit of it reads as one of the card number that follows.
_ESCAPED_BEFORE = re.compile(rb"\\u[0-9a-fA-F]{4}[2-6][0-9]")
_CODE = re.compile(rb"(?i:code|kty)(?:\\{0,3}[\"']|&quot;)?[ \t\r\n]{0,20}[:=]")
_DIGITS = re.compile(rb"[ \t\r\n]{0,20}\"[0-9]{4,10}(?:[\"\\]|\Z)")  # behind `code`
_TRIGGER_MAX = 12  # of forms that are searched for by what follows
_OAUTH_BESIDE = (b"redirect", b"grant", b"verifier", b"client", b"state", b"scope", b"iss")
_BLANK = frozenset(b" \t\r\n_-+\"'\\")
# An object on a line of its own; else the scan finds the name before it.
_ON_NEXT_LINE = re.compile(rb":[ \t]{0,20}\r?\n[ \t\r\n]{0,40}\{")
_LINE_ENDS = re.compile(rb":\n")  # a third of what `bytes.find` takes for two bytes
_ESCAPES_MAX = 3_000
# No form of a secret is shorter: the built-in ones, an operator's.
FORM_MIN, OWN_FORM_MIN = 16, 8
_CALL = 8  # steps


class NotText(Exception):
    """The data has control characters, as only binary formats have."""


def is_text(data: bytes) -> bool:
    """Whether the data has no control characters but white space and ESC."""
    return 0 not in data.translate(FOLD_TEXT)


class Scan:
    """One per redactor; keeps the kinds of identifiers, by the names' own rule of what may be kept."""

    def __init__(self, names: Names, own: Iterable[str] = (), own_forms: tuple[Form, ...] = ()) -> None:
        self.names = names
        self.has_own_forms = bool(own_forms)
        self.form_min = OWN_FORM_MIN if own_forms else FORM_MIN
        self._needles = needles(tuple(own), own_forms)
        self._told = self._needles.told
        self._search_ascii = self._needles.search_ascii
        self._options = self._needles.options
        by_mark: dict[bytes, list[Bare]] = {}
        for bare in self._needles.bare:
            by_mark.setdefault(bare.mark, []).append(bare)
        # A mark is a number: `47 in data` takes a tenth of what `b"/" in data` takes.
        self._bare = tuple((mark[0], _any_of(mark, some).search, some) for mark, some in by_mark.items())

    def alarms(self, data: bytes, budget: Budget, *, cut: bool = False, text: bool = False) -> list[Alarm]:
        """In their order. cut: a form at the end may be unfinished. text: raises NotText unless it is one, in the same
        pass, for it would take a third of the scan. Raises TooCostly."""
        # A name may be the last word.
        folded = data.translate(FOLD_TEXT if text else FOLD) + b"_"
        if text and 0 in folded:
            raise NotText
        out: list[Alarm] = []
        found = self._search_ascii(folded) if data.isascii() else self._needles.search(folded)
        cards_here = cut
        if found:
            cards_here = self._asked(data, folded, found, out, budget, cut) or cut
        more = len(out)
        for mark, search, bare in self._bare:
            if mark in data and search(data) is not None:
                for one in bare:
                    self._without_letter(one.form, one.pattern, data, budget, out, cut)
        if self._options:
            self._option(data, budget, out)
        if 10 in data and 123 in data and (13 in data or _LINE_ENDS.search(data)):
            for m in _ON_NEXT_LINE.finditer(data):
                budget.spend(2)
                out += [Alarm(*span, FORM) for span in nested_key(data, m.end() - 1, self.names)]
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
        if 58 in data and may_be_pgpass(data):
            out += [Alarm(start, end, FORM) for start, end in pgpass(data, budget)]
        if 37 in data or 92 in data or (38 in data and data.find(b"&#") >= 0):
            self._escaped(data, out)
        if len(out) > more:
            out.sort(key=_in_order)
        budget.spend(_CALL + (len(data) >> 7) + len(out) - more)
        return out

    def _escaped(self, data: bytes, out: list[Alarm]) -> None:
        """Letters, digits and signs that are escaped, which may be a name's or a URL's."""
        if 37 in data:
            out += _escaped_users(data)
            out += _escapes(_PERCENT, data)
        if 92 in data:
            if data.find(b"\\u") >= 0:
                out += [Alarm(start, end, ESCAPE) for _, start, end in self._needles.search_escaped(data.lower())]
                out += _escapes(_UNICODE, data)
            out += _escapes(_ESCAPE_IN_KEY, data)
        if 38 in data:
            out += _escapes(_ENTITY, data)

    def _option(self, data: bytes, budget: Budget, out: list[Alarm]) -> None:
        for number, pattern in self._options:
            for m in pattern.finditer(data):
                if m.start() and data[m.start() - 1] in _BLANK:
                    budget.spend(1)
                    out.append(Alarm(m.start() - 1, m.end(), COMMAND, number))

    def _without_letter(
        self, form: Form, pattern: re.Pattern[bytes], data: bytes, budget: Budget, out: list[Alarm], cut: bool
    ) -> None:
        for m in pattern.finditer(data):
            budget.spend(1 if form.near else 4)
            at = m.start()
            if form.near:
                before = data[max(0, at - _TRIGGER_MAX) : m.end()].lower()
                trigger = next((t for t in form.triggers if before.endswith(t)), None)
                if trigger is None:
                    continue
                at = m.end() - len(trigger)
            if (span := at_trigger(form, data, at, cut=cut and bool(form.near))) is not None:
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
        again = self._needles.search(folded[start + 1 : end + _IDENT_MAX]) if number in self._needles.shadows else ()
        if not again or again[0][1] + start + 1 >= end:
            return None
        found, begin, stop = again[0]
        what, told, _, _ = self._told[found]
        return (start + 1 + begin, start + 1 + stop, what, told) if what == NAME and told is None else None

    def _asked(self, data: bytes, folded: bytes, found: Found, out: list[Alarm], budget: Budget, cut: bool) -> bool:
        """Adds to `out` those that are none of a harmless kind. Returns whether a card number may stand there."""
        done = spent = 0
        card = unsorted = False
        codes: list[tuple[int, int]] = []
        misses = self.names.misses
        table, exact, edged = self._told, self._needles.exact, self._needles.edged
        for number, start, end in found:
            if start < done:
                continue
            spent += 2
            if spent > 100:
                budget.spend(spent + MISS * (self.names.misses - misses))
                spent, misses = 0, self.names.misses
            what, told, forms, lead = table[number]
            if what == CODE_KEY:
                unsorted = self._code(data, start, end, out, codes) or unsorted
                continue
            stop = end
            start -= lead
            if forms:
                inside = number in exact and data[start:end].lower() not in exact[number]
                if not inside and number in edged and start:
                    inside = data[start - 1] in _WORD and data[start - 2] != 92
                span = None if inside or start < 0 else self._formed(forms, data, start, budget, cut)
                spent += 4 if span is not None else 0 if inside else 2 * len(forms)
                if span is not None:
                    out.append(Alarm(*span, FORM))
                    done = span[1]
                    if any(form.until for form in forms):
                        # A key without its last line reaches to the end, over the names and values that follow.
                        done = end
                        spent += span[1] - start >> 11  # each is searched for its last line
                    continue
                if forms[0].name == "json web token":
                    out.append(Alarm(start, end, BASE64))  # of a JSON document
                if what == FORM:
                    overlapping = self._shadowed(number, folded, start + lead, end)
                    if overlapping is None:
                        continue
                    start, end, what, told = overlapping
                end = start + len(folded[start:end].rstrip(b"_"))
            if what == CARD:
                card = True
                continue
            if told is PARENT:
                spent += 3
                secrets = nested_key(data, stop - 1, self.names)
                out += [Alarm(*span, FORM) for span in secrets]
                unsorted = unsorted or bool(secrets)
                continue
            if told is IN_QUOTES:
                if not start or data[start - 1] != 34 or data[stop - 2] != 34:
                    continue
                end = stop - 2
            if what == BASE64:
                if data[start:end] == told:
                    out.append(Alarm(start, end, BASE64))
                continue
            if what == COMMAND:
                assert isinstance(told, tuple)
                command, word, inside, is_name = told
                if data[start:end].lower().translate(BLANKS) == word and (
                    inside
                    or word[:1] == b" "
                    or _ident_start(data, start) == start
                    or not data[start - 1 : start].isalnum()
                ):
                    out.append(Alarm(_ident_start(data, start) if inside else start, end, COMMAND, command))
                overlapping = None if is_name else self._shadowed(number, folded, start + lead, end)
                if overlapping is not None:
                    start, end, what, told = overlapping
                elif not is_name:
                    continue
                end = start + len(folded[start:end].rstrip(b"_"))
            # The identifier around the word decides.
            left = _ident_start(data, start)
            if folded[end - 1] in b"_{":
                end -= 1
            right = _ident_end(data, end)
            if not data[left:right].isascii():  # `密码：x`: the sign is no part of the name
                for sign in _WIDE_SIGN.finditer(data, left, right):
                    if sign.end() <= start:
                        left = sign.end()
                    elif sign.start() >= end:
                        right = sign.start()
                        break
            kind = self.names.kind(data[left:right])
            done = right
            if kind != YES and data[right : right + 1] == b'"' and (brace := is_object(data, right)) >= 0:
                secrets = nested_key(data, brace, self.names)
                out += [Alarm(*span, FORM) for span in secrets]
                unsorted = unsorted or bool(secrets)
            if kind == NO or (kind == COUNT and _COUNTED.match(data, right)):
                continue
            out.append(Alarm(left, right, NAME, kind))
        if codes and any(data.find(word) >= 0 for word in _OAUTH_BESIDE):
            out += [Alarm(start, end, CODE_KEY) for start, end in codes]
            unsorted = True
        if unsorted:
            out.sort(key=_in_order)
        budget.spend(spent + MISS * (self.names.misses - misses))
        return card

    def _code(self, data: bytes, start: int, end: int, out: list[Alarm], codes: list[tuple[int, int]]) -> bool:
        """`code` as a name, and one that was sent. Returns whether it adds an alarm."""
        before = data[start - 1] if start else 32
        if _IDENT[before] == 97:
            return False
        m = _CODE.match(data, start)
        sent = None
        if m is not None and data[start] | 32 == 107:  # k
            out.append(Alarm(start, m.end(), CODE_KEY))
            return False
        if m is not None:
            codes.append(m.span())
            if before == 34 and _DIGITS.match(data, m.end()) is not None:
                sent = code_beside(data, start, start + 4)
        if before == 32 and data[end - 1 : end] != b"=":
            sent = sent_code(data, start)
        if sent is None:
            return False
        out.append(Alarm(*sent, FORM))
        return True


def _in_order(alarm: Alarm) -> tuple[int, bool, int]:
    """A command stands before the name that its word is: the name would take it for read (`sshpass `, `auth=(`)."""
    return alarm.start, alarm.what != COMMAND, alarm.end


def _any_of(mark: bytes, some: list[Bare]) -> re.Pattern[bytes]:
    """One search tells of most texts that none of these is there; of most marks, what stands before them."""
    known = all(bare.before for bare in some)
    before = b"(?<=[" + re.escape(b"".join(bare.before for bare in some)) + b"]" + re.escape(mark) + b")"
    return re.compile(re.escape(mark) + before * known + b"(?:" + b"|".join(bare.around for bare in some) + b")")


def _ident_start(data: bytes, at: int) -> int:
    """Where the identifier around this place begins; the letter of an escape (`\\npin`) is no part of it."""
    if not at or _IDENT[data[at - 1]] == 32:
        return at
    low = max(0, at - _IDENT_MAX)
    start = low + data[low:at].translate(_IDENT).rfind(b" ") + 1
    return start + 1 if low < start < at and data[start - 1] == 92 and data[start] in _ESCAPE_LETTERS else start


def _ident_end(data: bytes, at: int) -> int:
    """Where the identifier around the byte before this place ends."""
    if at >= len(data) or _IDENT[data[at]] == 32:
        return at
    size = data[at : at + _IDENT_MAX].translate(_IDENT).find(b" ")
    return at + (size if size >= 0 else min(_IDENT_MAX, len(data) - at))


def _escaped_users(data: bytes) -> list[Alarm]:
    """The `@` of URLs with a user that are percent-encoded."""
    out: list[Alarm] = []
    at = data.find(b"%40")
    if at < 0 or (data.find(b"%2F%2F") < 0 and data.find(b"%2f%2f") < 0):
        return out
    for _ in range(1_000):
        if at < 0:
            break
        low = max(0, at - 300)
        begin = max(data.rfind(b"%2F%2F", low, at), data.rfind(b"%2f%2f", low, at))
        if begin >= 0:
            out.append(Alarm(begin, at + 3, ESCAPE))
        at = data.find(b"%40", at + 3)
    return out


def _escapes(expression: re.Pattern[bytes], data: bytes) -> list[Alarm]:
    """The first few thousand of them: then everything is one."""
    if expression.search(data) is None:
        return []
    return [Alarm(*m.span(), ESCAPE) for m in islice(expression.finditer(data), _ESCAPES_MAX)]
