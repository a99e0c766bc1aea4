"""Addresses in messages: what may hold a password is not shown.

People paste `kafka://user:password@host/topic`, or `?password=…`, from the configuration of something else. Where such
an address is refused, its text would stand in logs and on terminals. So a refused address is shown whole only when
nothing in it can be a password, and free text is shown without what looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["shown_value", "without_passwords"]

_SHOWN_MAX = 200
# Letters, digits, `.-_~`, slashes, commas and brackets; a colon only behind the scheme, before a port, and between
# brackets.
_HARMLESS = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{0,30}:/{2,4})?(?:[A-Za-z0-9._~,/-]|\[[0-9A-Fa-f:.]{0,60}\]|:[0-9]{1,5}(?=[,/]|$))*"
)
_SUSPICIOUS = re.compile(r"[@:?#%=]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:(?=/)")
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,4})[^\n]{0,500}@")
_IN_QUERY = re.compile(r"([?&][^\s=&;?#'\"]{1,100}=)[^\s&;'\"]+")


def shown_value(value: object) -> str:
    """A wrong value as an error may show it: as `repr` does, with what may hold a password as `…`."""
    if isinstance(value, str):
        if not _SUSPICIOUS.search(value) or (len(value) <= _SHOWN_MAX and _HARMLESS.fullmatch(value)):
            return repr(value)[:_SHOWN_MAX]
        scheme = _SCHEME.match(value)
        return repr(f"{scheme[0]}//…" if scheme else "…")
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:_SHOWN_MAX]
    return f"of type {type(value).__name__}"


def without_passwords(text: str, words: Iterable[str] = ()) -> str:
    """Free text, such as an error of a library, without user and password of addresses and without values behind
    `?name=`. `words`: what may be quoted in it, such as arguments of a command line, and is shown as `shown_value` has
    it."""
    for word in sorted(words, key=len, reverse=True):
        flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        shown = shown_value(value)
        if shown != repr(value):
            for spelling in (word, repr(word)[1:-1]):
                text = text.replace(spelling, flag + equals + shown[1:-1])
    return _IN_QUERY.sub(r"\1…", _USER_INFO.sub(r"\1…@", text))
