"""Masks HTML and XML that had a hit, tag by tag: in markup the name of a secret and its value stand in two attributes
of any order, in two elements, on two lines.

A tag that names a sensitive field in an attribute (`name="password"`, `for=`, `type=`) loses the values of all its
attributes but the harmless ones, and the text in its element. An element of a sensitive name loses its text. A text
that is a sensitive name (`<key>password</key>`) takes the next element with it. Other text is masked as text is.
What is no clean markup, such as a quote left open or a bracket inside an attribute, is not decided: the caller omits
the body. Linear; at most `TAGS_MAX` tags, 12 ms (m).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from .names import LOOSE, REDACTED, SENSITIVE, Names
from .reflection import hidden

__all__ = ["TAGS_MAX", "is_markup", "mask_markup"]

TAGS_MAX = 2_500
_HITS_MAX = 200  # tags and texts that must be looked at closely: 30 µs each
_MASK = REDACTED.encode()
_TAGS = re.compile(rb"(<[^<>]*>)")
_BEGIN = re.compile(rb"\s*<[A-Za-z!?/]")
_WORD_ENDS = bytes.maketrans(b"\"' \t\r\n", b"::::::")
_ELEMENT = re.compile(rb"<(/?)([A-Za-z_][A-Za-z0-9_:.-]*)(?=[\s/>])")
_QUOTED = re.compile(rb"\"[^\"]*\"|'[^']*'")
# Only where a name begins: tried at each letter of a long one, it would be quadratic.
_ATTRIBUTE = re.compile(
    rb"([^\s=<>\"'/](?<![^\s=<>\"'/].)[^\s=<>\"'/]*+)(\s*+=\s*+)(\"[^\"]*+\"|'[^']*+'|[^\s\"'<>]++)"
)
# Attributes whose value may name a field, and those that hold no value of one. Others of such a tag are masked.
_NAMES_FIELD = frozenset((
    b"name", b"id", b"type", b"for", b"autocomplete", b"key", b"property", b"itemprop", b"field", b"http-equiv",
    b"label", b"aria-label", b"placeholder", b"title", b"ng-model", b"v-model", b"data-name", b"data-field", b"param",
))  # fmt: skip
_HARMLESS = _NAMES_FIELD | frozenset((
    b"class", b"style", b"required", b"minlength", b"maxlength", b"size", b"method", b"rel", b"tabindex", b"lang",
    b"role", b"aria-describedby", b"aria-labelledby", b"autofocus", b"disabled", b"readonly", b"xmlns", b"charset",
))  # fmt: skip
_NAMES_NONE = frozenset((b"class", b"style", b"href", b"src", b"action", b"value", b"content", b"lang", b"rel"))
_VALUES = frozenset((b"value", b"val", b"v", b"data"))
_VOID = frozenset((b"input", b"meta", b"link", b"img", b"br", b"hr", b"wbr", b"col", b"area", b"base", b"embed",
                   b"param", b"source", b"track"))  # fmt: skip
_SPACERS = frozenset((b"br", b"hr", b"wbr", b"img", b"col", b"link"))


def is_markup(text: bytes) -> bool:
    return _BEGIN.match(text) is not None


def mask_markup(
    text: bytes, names: Names, redacted: list[str], mask_plain: Callable[[bytes], bytes | None]
) -> bytes | None:
    """None when it cannot be decided. mask_plain: masks a text between tags; None when it cannot be."""
    tokens = _TAGS.split(text)
    if len(tokens) > 2 * TAGS_MAX:
        return None
    names.look(len(text) + 256 * len(tokens))
    inside = b""  # the element whose text is masked
    depth = 0
    hits = 0
    last_closed = b""
    label = False  # a text was a sensitive name: the next element holds the value
    for at, token in enumerate(tokens):
        if at & 1:
            m = _ELEMENT.match(token)
            if m is None:  # a comment, a declaration, CDATA, or no tag at all
                if token.startswith(b"</") and not depth and not label:
                    return None
                if depth or label or names.suspicious(token):
                    tokens[at] = _hide(token.removeprefix(b"<![CDATA[").removesuffix(b"]]>"), redacted)
                continue
            if b'"' in token or b"'" in token:
                rest = _QUOTED.sub(b"", token)
                if b'"' in rest or b"'" in rest:
                    return None
            element = m[2].lower()
            if m[1]:
                last_closed = element
                if depth and element == inside:
                    depth -= 1
                continue
            closed = token.endswith(b"/>") or element in _VOID
            if depth:
                tokens[at] = _mask_attributes(token, names, redacted, all_of_them=True)
                if element == inside and not closed:
                    depth += 1
                continue
            # A short word counts at its end only, and that is a quote or a space here.
            if names.hit(token) or names.hit(token.translate(_WORD_ENDS)) or 38 in token:
                hits += 1
                if hits > _HITS_MAX:
                    return None
            elif not label:
                continue
            field = (
                label
                or _is_name(m[2] if 61 in token else token.strip(b"</> \t\r\n"), names)
                or _names_field(token, names)
            )
            tokens[at] = _mask_attributes(token, names, redacted, all_of_them=field)
            if field and not closed:
                inside, depth, label = element, 1, False
            elif element not in _SPACERS and 61 in token:
                label = False
            continue
        if not token.strip():
            continue
        if b"<" in token or b">" in token:
            return None  # a bracket in a script, or inside an attribute: where the tags are cannot be told
        if depth or label:
            tokens[at] = _hide(token, redacted)
            continue
        plain = _unescaped(token).strip()
        if not names.hit(plain + b":"):
            continue
        hits += 1
        if hits > _HITS_MAX:
            return None
        word = plain.rstrip(b" :*")
        if not names.reveals(word):
            label = len(word) <= 100 and word.count(b" ") <= 3 and _is_name(word, names)
            if label and last_closed in _VALUES:
                return None  # the value stood before its name
        else:
            masked = mask_plain(plain)
            if masked is None:
                return None
            tokens[at] = masked
            label = True  # `Password: <b>x</b>`
    return b"".join(tokens)


def _unescaped(value: bytes) -> bytes:
    return html.unescape(value.decode("utf-8", "replace")).encode("utf-8", "replace") if 38 in value else value


def _hide(value: bytes, redacted: list[str]) -> bytes:
    hidden(redacted, _unescaped(value.strip()))
    return _MASK


def _is_name(word: bytes, names: Names) -> bool:
    return len(word) <= 100 and names.hit(word + b":") and names.classify_bytes(word) in (SENSITIVE, LOOSE)


def _names_field(token: bytes, names: Names) -> bool:
    """Whether an attribute says that this tag is about a sensitive field."""
    return any(
        m[1].lower() not in _NAMES_NONE and _is_name(_unescaped(m[3].strip(b"\"'")), names)
        for m in _ATTRIBUTE.finditer(token)
    )


def _mask_attributes(token: bytes, names: Names, redacted: list[str], *, all_of_them: bool) -> bytes:
    """all_of_them: but for the harmless ones; else those with a secret in them."""
    if 61 not in token:
        return token
    names.look(len(token), 2)

    def one(m: re.Match[bytes]) -> bytes:
        name = m[1].lower()
        value = _unescaped(m[3].strip(b"\"'"))
        if not value:
            return m[0]
        if name not in _HARMLESS and (all_of_them or _is_name(m[1], names)):
            hidden(redacted, value)
        elif not (names.hit(value) and (name.startswith(b"on") or names.reveals(value))):
            return m[0]
        return m[1] + m[2] + b'"' + _MASK + b'"'

    return _ATTRIBUTE.sub(one, token)
