"""Values that are secrets by their form, whatever name they stand under.

JSON web tokens, `Bearer …` and `Basic …`, private keys, user information in URLs, card numbers, the keys of well-known
services (AWS, GitHub, GitLab, Slack, Stripe, Google, OpenAI, Anthropic), what a validation error repeats of its input,
and what stands in the path of a URL after a word such as `reset-password` and looks made by a machine.

All searches are linear. They run only where the scan of `names` found one of `SHAPES` or `WEAK`, or an `@` after
`://`; those of a path where it has a long word.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from itertools import islice

__all__ = [
    "ANY_CASE", "SHAPES", "USERINFO", "WEAK", "aws_secret_in", "card_spans", "has_aws_id", "looks_made",
    "may_hold_user", "shapes", "tokens_in_path",
]  # fmt: skip

# Needles for the scan of `names`, spelled as the value is; of those in `ANY_CASE` case does not matter. The weak ones
# stand in ordinary text too (`high price` has a `ghp`), so that only what `shapes` finds counts.
SHAPES = ("eyJ", "bearer", "privatekey", "inputvalue:", "T3BlbkFJ", "sk-ant-api0")
WEAK = (
    "AKIA", "ASIA", "AIza", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "sk_live",
    "rk_live", "whsec_", "basic",
)  # fmt: skip
ANY_CASE = frozenset({"bearer", "privatekey", "inputvalue:", "basic"})

# Only where a word begins: tried at each `eyJ` inside a run of them, it would be quadratic.
_JWT = rb"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"
# `https://user:password@host`, and a long word before the `@` without a colon, which is a token. A run ends at a slash,
# so that none is looked at twice; or, when the password has one (`u:a/b@h`), at the next `:/`. A number before the
# slash is a port.
USERINFO = re.compile(
    rb":\\{0,4}/\\{0,4}/(?:"
    rb"(?:[^/?#\s<>\"@:]*+:|(?=[^/?#\s<>\"@:]{16}))[^/?#\s<>\"]+@"
    rb"|[^/?#\s<>\"@:\[]*+:(?![0-9]{0,5}\\{0,4}[/,]|[{$])[^/?#\s<>\"@:]*+/"
    rb"[^?#\s<>\":@]*+(?::(?!\\{0,4}/)[^?#\s<>\":@]*+)*@(?:[^/?#\s<>\"@:]*+@)*)"
)
_AWS_ID = rb"A(?<![A-Za-z0-9]A)[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"
_AWS = re.compile(_AWS_ID)
# The secret that belongs to such an id is 40 characters without a mark: only beside one.
_AWS_SECRET = re.compile(
    rb"(?<![A-Za-z0-9/+=])(?=[a-z0-9/+]{0,39}[A-Z])(?=[A-Z0-9/+]{0,39}[a-z])(?=[A-Za-z/+]{0,39}[0-9])[A-Za-z0-9/+]{40}"
    rb"(?![A-Za-z0-9/+=])"
)
_CREDENTIALS = rb"(?:(?i:earer)[ +]{1,4}[A-Za-z0-9._~+/=-]{8,}|(?i:asic)[ +]{1,4}(?P<%b>[A-Za-z0-9+/_-]{6,}={0,2}))"
# Each alternative begins with a letter of its own and looks behind after it: the search then skips what begins none,
# and takes a tenth of the time.
_SHAPE = re.compile(
    _JWT + rb"|B(?<![A-Za-z0-9_]B)" + _CREDENTIALS % b"basic" + rb"|b(?<![A-Za-z0-9_]b)" + _CREDENTIALS % b"basic_"
    + rb"|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}-----|\Z)"
    # The text of a pydantic error repeats what was refused.
    rb"|input_value=[^\n]*?(?=, input_type=|\n|\Z)"
    rb"|(?P<aws>" + _AWS_ID + rb")|AIza[A-Za-z0-9_-]{35}"
    rb"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,}"
    rb"|xox[abeprs]-[A-Za-z0-9-]{10,}|sk_live_[A-Za-z0-9]{10,}|rk_live_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/]{16,}"
    rb"|s(?<![A-Za-z0-9_-]s)k-[A-Za-z0-9_-]{0,200}?(?:T3BlbkFJ|ant-api[0-9]{2}-)[A-Za-z0-9_-]{16,}|" + USERINFO.pattern
)  # fmt: skip
# The look behind stands after the first digit: before it, the search would try at each byte.
_CARD = re.compile(rb"[2-6](?<![0-9A-Za-z.-].)(?:(?:[ +-]|%20)?[0-9]){14,15}(?![0-9A-Za-z])")
_CARDS_MAX = 1_000
_TWICE = bytes.maketrans(b"0123456789", b"0246813579")
_CARD_ISSUER = re.compile(rb"(?:4|5[1-5]|2[2-7]|6(?:011|4|5|2)|35)[0-9]+")
_BASIC_MAX = 100  # of a text whose credentials are decoded: what follows is taken for some

# What stands before a token in a path: a segment with one of these words, and perhaps one more (`/reset/MQ/c6k8-3f…`).
# The slash before it is not the host's.
_WORDS = (
    "reset|verify|verification|confirm|confirmation|activate|activation|invites?|invitations?|magic|recover|recovery"
    "|unsubscribe|password|passwordless|unlock|token|one-?time|otp"
)
_TOKEN_PATH = re.compile(
    (
        rf"/(?<!//)[^/?#\s<>\"]{{0,40}}?(?=[acimoprtuvACIMOPRTUV])(?:(?<![A-Za-z])(?i:{_WORDS})|(?:{_WORDS.title()}))"
        r"(?![a-z])[^/?#\s<>\"]{0,40}/([^/?#\s<>\"]{1,600})(?:/([^/?#\s<>\"]{16,600}))?"
    ).encode()
)
_CHANGE = re.compile(rb"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_DIGIT_CHANGE = re.compile(rb"(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]")
_HEX = re.compile(rb"[0-9a-fA-F-]{24,}")
_MADE_MIN = 16


def shapes(text: bytes) -> Iterator[tuple[int, int]]:
    """Spans of such values but card numbers, not overlapping, those of AWS secrets last."""
    aws = False
    tried = 0
    for m in _SHAPE.finditer(text):
        kind = m.lastgroup
        if kind == "basic" or kind == "basic_":
            tried += 1
            if tried <= _BASIC_MAX and not _is_basic(m[kind]):
                continue
        elif kind == "aws":
            aws = True
        yield m.span()
    if aws:
        for m in _AWS_SECRET.finditer(text):
            yield m.span()


def aws_secret_in(text: bytes) -> bool:
    """Whether it may be the secret of an id of AWS, of which one stands nearby."""
    return _AWS_SECRET.search(text) is not None


def has_aws_id(text: bytes) -> bool:
    return (text.find(b"AKIA") >= 0 or text.find(b"ASIA") >= 0) and _AWS.search(text) is not None


def _is_basic(value: bytes) -> bool:
    """Whether these are `user:password` in base64; `Basic information` is not."""
    if len(value) % 4 == 1:
        return False
    try:
        plain = b64decode(value.rstrip(b"=") + b"==", altchars=b"-_")
    except ValueError:
        return False
    return 58 in plain and min(plain) >= 32


def tokens_in_path(path: bytes) -> list[tuple[int, int]]:
    """Spans of the segments, in a path or URL, that follow a word such as `reset-password`, `verify`, `invite` or
    `magic` and look random. At most 20."""
    return [
        m.span(group)
        for m in islice(_TOKEN_PATH.finditer(path), 20)
        for group in (1, 2)
        if m[group] and looks_made(m[group])
    ]


def looks_made(word: bytes) -> bool:
    """Whether a machine made it: long, and letters and digits or small and capital letters in turn. Names of pages
    and things do not."""
    if len(word) < _MADE_MIN:
        return False
    if len(_CHANGE.findall(word)) * 5 >= len(word):
        return True
    if len(_DIGIT_CHANGE.findall(word)) < 3:
        return False
    return (len(word) >= 20 and word.isalnum()) or _HEX.fullmatch(word) is not None


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


def _luhn(digits: bytes) -> bool:
    # A sum over bytes is 8 times as fast as a loop over digits: 64 KiB of card numbers took 75 ms.
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_TWICE)) - 48 * len(digits)) % 10 == 0


def may_hold_user(data: bytes) -> bool:
    """Whether USERINFO is worth a search: two searches for a byte and three."""
    return 64 in data and (data.find(b":/") >= 0 or data.find(b":\\") >= 0)
