"""Secrets that only their surroundings reveal, decided during the scan: a one-time code in a message, a name that is
split over two levels of JSON."""

from __future__ import annotations

import re

from .forms import made
from .names import YES, Names
from .tables import words

__all__ = ["nested_secret", "sent_code"]

# Codes in a message: `Your Acme code is 123456`, `G-123456 is your Google verification code`.
_SENT_BEHIND = re.compile(
    rb"(?i:code|c\xc3\xb3digo|\xd0[\xba\x9a]\xd0\xbe\xd0\xb4)(?i: is| lautet| es| \xc3\xa9| est)?:?"
    rb"[ \r\n]{1,4}[\"'*`(\[]{0,2}"
    rb"(?P<secret>[0-9]{4,8}|[0-9]{3}[ -][0-9]{3})(?![0-9A-Za-z-])"
)
_YOUR_CODE = re.compile(
    rb"(?i:(?:^|[^A-Za-z])(?:your|dein|ihr|votre|ton|tu|su|seu|\xd0\xb2\xd0\xb0\xd1\x88|\xd0\x92\xd0\xb0\xd1\x88)[ ]"
    rb"(?:[\w-]{2,20}[ ]){0,2}"
    rb"|(?:use|enter|type|verify|received|this|the following|login|sms|sign-in|log-in)[ ](?:this |the )?)\Z"
)
_NO_CODE = re.compile(
    rb"(?i:error|status|exit|return|response|http|zip|post|postal|country|area|dial|promo|coupon|discount|referral"
    rb"|product|order|booking|tracking|colou?r|source|bar|qr|dress|currency|language|reason|result|hs|sic|naics|icd|iata"
    rb"|item|sku)[ ]\Z"
)
_SENT_BEFORE = re.compile(
    rb"(?:\A|[\n.:>\"' ])(?:G-)?(?P<secret>[0-9]{4,8})[\"'*`]{0,2} (?:is|as) (?:your|the|a|my) "
    rb"(?:[\w-]{1,20} ){0,3}\Z"
)
_SENT_MAX = 70


def sent_code(data: bytes, at: int) -> tuple[int, int] | None:
    """The span of a one-time code beside the word `code` at `at` of a message; None."""
    begin = max(0, at - _SENT_MAX)
    before = data[begin:at]
    if _NO_CODE.search(before[-12:]):
        return None
    m = _SENT_BEHIND.match(data, at, at + _SENT_MAX)
    if m is not None and _YOUR_CODE.search(before):
        return m.span("secret")
    m = _SENT_BEFORE.search(before)
    return None if m is None else (begin + m.start("secret"), begin + m.end("secret"))


# Names over two levels: `{"encryption": {"key": "x"}}`, `{"mfa": {"code": "123456"}}`.

_VALUE = re.compile(rb"\"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}\"([^\"\\]{4,4096})")
_PARENT = re.compile(rb"\"([\w.-]{1,40})\"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}\Z")
_PARENT_MAX = 300
_KEY_PARENTS = frozenset(word.encode() for word in words("key_parents"))
_CODE_PARENTS = frozenset(word.encode() for word in words("code_parents"))
_CODE = re.compile(rb"[0-9]{3,10}")
# `{"phone": "+47…", "code": "123456"}`: what was sent there; `{"name": "Norway", "code": "47"}` is none.
_SENT_TO = re.compile(rb"\"(?i:e?-?mail|phone|phone_?number|mobile|msisdn)\"[ \t\r\n]{0,20}:")
_NAMED = re.compile(rb"\"(?i:id|name|country|title|message|price|amount|status|msg|error)\"[ \t\r\n]{0,20}:")
_REFERENCE = re.compile(rb"arn:|alias/|https?:|projects/|file:|env:|\$|\{")


def nested_secret(data: bytes, start: int, end: int, names: Names) -> tuple[int, int] | None:
    """The span of the value of `key` or `code`, which stands from `start` to `end` in quotes, when the name of the
    object around it says that it is a secret; None."""
    brace = data.rfind(b"{", max(0, start - _PARENT_MAX), start)
    if brace >= 0 and data[start] | 32 == 99 and (sent := _VALUE.match(data, end)) is not None:
        close = data.find(b"}", start, start + _PARENT_MAX)
        beside = data[brace : close if close >= 0 else start + _PARENT_MAX]
        digits = _CODE.fullmatch(sent[1]) is not None and len(sent[1]) >= 4
        if digits and b"{" not in beside[1:] and _SENT_TO.search(beside) and not _NAMED.search(beside):
            return sent.span(1)
    if brace <= 0 or data[brace - 1] in b",[" or data[max(0, brace - 20) : brace].rstrip()[-1:] != b":":
        return None  # of an array: most have no name of their own
    value = _VALUE.match(data, end)
    if value is None or data.find(b"}", brace, start) >= 0:
        return None
    parent = _PARENT.search(data, max(0, brace - 64), brace)
    if parent is None:
        return None
    name = parent[1].lower()
    if data[start:end].lower() == b"code":
        told = name.replace(b"_", b"").replace(b"-", b"") in _CODE_PARENTS and _CODE.fullmatch(value[1]) is not None
    else:
        looks = _is_key(value[1]) or value.end() == len(data)  # cut
        told = looks and (name in _KEY_PARENTS or names.kind(parent[1] + b"_key") == YES)
    return value.span(1) if told else None


def _is_key(value: bytes) -> bool:
    """Whether it looks like one: `sunflower1234`, and no word, place or reference."""
    if _REFERENCE.match(value) or b" " in value:
        return False
    return made(value) or (len(value) >= 8 and value.translate(None, b"0123456789") not in (b"", value))
