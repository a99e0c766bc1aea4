"""Question two: is this value, or a part of it, a secret by its form? All knowledge is in forms.toml.

Each form is tried only where the scan found one of its triggers, and matched bytes are not examined again, so the cost
is linear. This module has the forms that are not regular expressions: `Bearer` and `Basic`, user information in URLs,
card numbers with their Luhn digit, AWS secrets near an id, words that look machine-generated.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator

from ..settings.masking import own_form
from .tables import FORMS, Form

__all__ = ["at_trigger", "aws_secrets", "cards", "made", "may_hold_user", "own_secret", "userinfo"]

_AT = {form.name: re.compile(form.expression).match for form in FORMS}
_BACK_MAX = 240
_RUN = re.compile(rb"[A-Za-z0-9_./+=: -]{4,4096}")


def at_trigger(form: Form, data: bytes, at: int, *, cut: bool = False) -> tuple[int, int] | None:
    """The span to mask of this form whose trigger is at `at`, in any letter case; None: no match.

    cut: what reaches the end of the data may be the beginning of one."""
    if form.back:
        at = data.rfind(form.back, max(0, at - _BACK_MAX), at + len(form.back))
        if at < 0:
            return None
    m = (form.match or _AT[form.name])(data, at)
    if m is None:
        rest = _RUN.match(data, at) if cut else None
        begun = data[at : at + 24].lower() if form.longest else data[at : at + 24]
        return rest.span() if rest and rest.end() == len(data) and begun.startswith(form.triggers) else None
    start, end = m.span("secret") if "secret" in m.re.groupindex else m.span()
    if form.check == "whole":
        if data[end : end + 1].isalnum():
            return None  # `key-` and a longer hash
    elif form.check and not (cut and end == len(data)) and not _CHECKS[form.check](data[start:end]):
        return None
    if form.stop:
        stop = data.find(form.stop, start, end)
        end = stop if stop >= 0 else end
    if form.until:
        until = data.find(form.until, end)
        end = len(data) if until < 0 else min(len(data), until + 60)
        line = data.find(b"-----", until + len(form.until), end) if until >= 0 else -1
        end = line + 5 if line >= 0 else end
    return start, end


def own_secret(expression: str) -> Form:
    """An operator's form as a row of the table. Raises ValueError with what is accepted."""
    safe = own_form(expression)
    match = re.compile(safe.expression).match
    return Form(expression, safe.triggers, safe.expression, "settings", "", match=match, longest=safe.longest)


def _is_basic(value: bytes) -> bool:
    """Whether these are `user:password` in base64; `Basic information` is not."""
    try:
        plain = b64decode(value + b"==", altchars=b"-_" if b"-" in value or b"_" in value else None)
    except ValueError:
        return False
    return 58 in plain and min(plain) >= 32


# User information

_AUTHORITY = re.compile(rb":[\\/]{2,8}([^\s<>\"?#]{1,600})")
_WHOLE = re.compile(rb"://([^?#]+)")
_USER_CUT = re.compile(rb":[\\/]{2,8}[^\s:@/?#<>\"'\\]{0,100}:([0-9]{0,100}[^\s@/<>\"'?#0-9\\][^\s@<>\"']{0,300})\Z")
_PORT = re.compile(rb":[0-9]{1,5}(?:\\?/|\Z|[,\s])")
_LONG_USER = 16
_NO_PASSWORDS = frozenset((b"", b"x", b"x-oauth-basic", b"unused", b"api"))  # the user is the secret


def may_hold_user(data: bytes) -> bool:
    """Whether `userinfo` is worth a search. `64 in data` is a memchr."""
    return data.find(b":/") >= 0 or data.find(b":\\") >= 0


def userinfo(data: bytes, *, whole: bool = False, cut: bool = False) -> Iterator[tuple[int, int]]:
    """Spans of the passwords, or long users alone, in `scheme://user:password@host`.

    The user may be a mail address, the password may hold a slash, a colon or another `@`. whole: `data` is one URL, so
    that white space ends none of it. cut: the end of the data may be the middle of one."""
    if cut and (begun := _USER_CUT.search(data, max(0, len(data) - 400))) is not None:
        yield begun.span(1)
    if 64 not in data:
        return
    for m in (_WHOLE if whole else _AUTHORITY).finditer(data):
        span = _user_of(data, *m.span(1))
        if span is not None:
            yield span


def _user_of(data: bytes, begin: int, end: int) -> tuple[int, int] | None:
    at = data.rfind(b"@", begin, end)
    if at < 0 or data[begin : begin + 1] in (b"[", b"{"):
        return None
    slash = data.find(b"/", begin, end)
    first = data.find(b"@", begin, end)
    colon = data.find(b":", begin, at)
    if colon >= 0 and (slash < 0 or colon < slash):
        if _PORT.match(data, colon, at) or data[colon + 1 : colon + 2] in (b"{", b"$"):
            return None
        if data[colon + 1 : colon + 3] in (b"//", b"\\/") or (
            data[colon + 1 : colon + 2] == b"/" and colon == begin + 1
        ):
            return None
        if slash >= 0 and first < slash:  # a path may hold an `@` of its own
            at = data.rfind(b"@", begin, slash)
        if data[colon + 1 : at] in _NO_PASSWORDS:
            return (begin, colon) if colon - begin >= 8 else None
        return colon + 1, at
    if slash < 0 or first < slash:
        at = data.rfind(b"@", begin, slash if slash >= 0 else end)
        user = data[begin:at]
        mixed = len(user) >= 10 and user.translate(None, b"0123456789") not in (user, b"")
        return (begin, at) if len(user) >= _LONG_USER or mixed else None
    return None


# Cards

# The look-behind comes after the first digit: before it, the search would try at each byte.
_CARD = re.compile(rb"[2-6](?<![0-9].)(?:[ +-]?[0-9]){14,15}(?![0-9A-Za-z])")
_CARD_CUT = re.compile(rb"(?<![0-9A-Za-z.-])[2-6](?:[ +-]?[0-9]){7,15}[ +-]?\Z")
_ISSUER = re.compile(rb"4|5[1-5]|2[2-7]|6(?:011|4|5|2)|35")
_TWICE = bytes.maketrans(b"0123456789", b"0246813579")
_CARDS_MAX = 1_000


def cards(data: bytes, *, escaped: bool = False, cut: bool = False) -> Iterator[tuple[int, int]]:
    """Spans of card numbers: 15 or 16 digits of a known issuer whose last is the Luhn digit of the others.

    After a thousand candidates, the rest of the data is one span. escaped: a letter before it may be JSON's.
    cut: the end of the data may be the middle of one."""
    if cut and (end := _CARD_CUT.search(data, max(0, len(data) - 40))):
        yield end.span()
    for number, m in enumerate(_CARD.finditer(data)):
        if number >= _CARDS_MAX:
            yield m.start(), len(data)
            return
        before = data[m.start() - 1 : m.start()]
        if before in (b".", b"-") or (before.isalpha() and not escaped):
            continue
        digits = m[0].translate(None, b" +-")
        known = digits.startswith((b"34", b"37")) if len(digits) == 15 else _ISSUER.match(digits)
        if known and _luhn(digits):
            yield m.span()


def _luhn(digits: bytes) -> bool:
    # A sum over bytes is 8 times as fast as a loop over digits.
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_TWICE)) - 48 * len(digits)) % 10 == 0


# AWS secrets have no mark: 40 characters beside an id.

_FORTY = re.compile(rb"[A-Za-z0-9/+=]{40,}")


def aws_secrets(data: bytes) -> Iterator[tuple[int, int]]:
    """Spans that may be the secret of an AWS id that is nearby."""
    for m in _FORTY.finditer(data):
        word = m[0]
        if (
            len(word) == 40
            and 61 not in word
            and word.lower() != word != word.upper()
            and any(48 <= c <= 57 for c in word)
        ):
            yield m.span()


# Words that a machine made

_DATED = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CHANGE = re.compile(rb"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_MADE_MAX = 4_096


def made(word: bytes) -> bool:
    """Whether it looks machine-generated: no words, no date, but alternating letters and digits, or letter cases."""
    size = len(word)
    if size < 8 or size > _MADE_MAX or b" " in word or b"://" in word or _DATED.match(word):
        return False
    digit = word.translate(None, b"0123456789") != word
    upper, lower = word.lower() != word, word.upper() != word
    if size < 16:
        return digit and upper and lower
    changes = len(_CHANGE.findall(word))
    return changes * 5 >= size or (changes >= 3 and digit and size >= 20)


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "basic": _is_basic,
    "made": made,  # `/invite/friends-and-family` is no token
    "token": lambda value: len(value) >= 20 or value.translate(None, b"0123456789") != value,  # `Bearer of`
}
