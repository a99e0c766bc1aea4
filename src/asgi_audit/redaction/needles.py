"""What the scan searches for: the words of the tables, folded as the scan folds the bytes, and what each of them is.

Built once per process for the built-in tables, and once for each set of an operator's names and forms.

Invariant: without `ahocorasick_rs` no needle of ASCII begins with `_`, which every fourth byte is: the search would
take twice as long. What begins with another mark is searched for from its first letter (`lead`), or apart (`bare`,
`options`).
"""

from __future__ import annotations

import re
import string
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from json.encoder import encode_basestring_ascii as escape_unicode
from typing import NamedTuple

from .alarms import BASE64, CARD, CODE_KEY, COMMAND, FORM, NAME
from .multisearch import Found, has_automaton, searcher
from .names import STEMS, YES, Names
from .tables import COMMANDS, FORMS, Form, words

__all__ = ["BLANKS", "FOLD", "FOLD_TEXT", "IN_QUOTES", "PARENT", "Bare", "Needles", "Told", "needles"]

_OTHERS = bytes(c for c in range(128) if not chr(c).isalnum() and c != 123)
# `{` stays: `"openai": {` is an object, `"openai": "x"` is none.
FOLD = bytes.maketrans(
    string.ascii_uppercase.encode() + string.digits.encode() + _OTHERS,
    string.ascii_lowercase.encode() + b"0" * 10 + b"_" * len(_OTHERS),
)
_CONTROL = bytes(c for c in range(32) if c not in b"\t\n\r\x1b")
# Of text, which has no control characters: they become zero bytes, which one look finds.
FOLD_TEXT = bytes(0 if c in _CONTROL else FOLD[c] for c in range(256))
BLANKS = bytes.maketrans(b"\t\r\n_-+\"'\\", b"         ")
_IN_BASE64 = (
    "password", "passwd", "Password", "secret", "token", "api_key", "apiKey", "client_", "private_key", "PASSWORD",
    "SECRET", "TOKEN", "API_KEY",
)  # fmt: skip
_CARD_NUMBER = (b"0" * 15, b"0000_0000_0000", b"0000_000000_0000")
IN_QUOTES, PARENT = object(), object()
_SHARED = 12  # of a needle, the first bytes that tell whether another one begins in it


# Rows of commands that are an option, ` -u `; what is read as a blank, as `["curl", "-u", "x"]` has it.
_OPTIONS = tuple(
    (number, re.compile(rb"-(?i:" + b"|".join(re.escape(o) for o in options) + rb")[ \t\r\n_+\"'\\-]"))
    for number, command in enumerate(COMMANDS)
    if (options := [word[2:].strip() for word in command.words if word[:2] == b" -"])
)


class Told(NamedTuple):
    """What a needle is, what must stand there, the forms whose trigger begins it, and how many bytes stand before."""

    what: int
    told: object
    forms: tuple[Form, ...]
    lead: int


class Bare(NamedTuple):
    """A trigger that no word of letters tells: what must be there, and the search for what may be one."""

    mark: bytes
    before: bytes  # what may stand before the mark; empty: anything
    around: bytes  # an expression, behind the mark
    pattern: re.Pattern[bytes]
    form: Form


class Needles(NamedTuple):
    told: tuple[Told, ...]
    # Triggers that a name's word may begin in: `berlin_api_key` holds the trigger `lin_api_`.
    shadows: frozenset[int]
    # Where a letter before the trigger says that it is none: `info ` is no token of a service with `nfo_`.
    edged: frozenset[int]
    # What a trigger is before it is folded: `confirm ` is no `confirm/`.
    exact: dict[int, frozenset[bytes]]
    bare: tuple[Bare, ...]
    options: tuple[tuple[int, re.Pattern[bytes]], ...]
    # Of all, and of those that may stand in ASCII, in folded bytes.
    search: Callable[[bytes], Found]
    search_ascii: Callable[[bytes], Found]
    # Of the words in other letters as JSON escapes them, in bytes in lower case: folded, they would be too much alike.
    search_escaped: Callable[[bytes], Found]


def needles(own: tuple[str, ...] = (), own_forms: tuple[Form, ...] = ()) -> Needles:
    """own: an operator's names."""
    return _built(own, own_forms, has_automaton())


@lru_cache(maxsize=4)
def _built(own: tuple[str, ...], own_forms: tuple[Form, ...], automaton: bool) -> Needles:
    found, leads = _words(own, automaton)
    triggers: dict[bytes, list[Form]] = {}
    bare: list[Bare] = []
    for form in (*own_forms, *FORMS):
        if form.near:
            bare.append(_near(form))
            continue
        for trigger in form.triggers:
            if not any(97 <= c <= 122 for c in trigger.translate(FOLD)):
                at = next((at for at, c in enumerate(trigger) if not 48 <= c <= 57), 0)
                before, after = re.escape(trigger[: at + 1]), re.escape(trigger[at + 1 :])
                around = b"(?<=" + before + b")" + after
                bare.append(
                    Bare(
                        trigger[at : at + 1], trigger[max(0, at - 1) : at], around, re.compile(re.escape(trigger)), form
                    )
                )
                continue
            needle = _from_letter(trigger, found, leads)
            forms = triggers.setdefault(needle, [])
            if form not in forms[-1:]:
                forms.append(form)
    names = Names(own)
    for needle, forms in triggers.items():  # `private key` and `bearer` are names, too
        is_name = any(names.kind(t.strip(b"- ")) == YES for form in forms for t in form.triggers)
        found.setdefault(needle, (NAME if is_name else FORM, None))
    # Words in other letters stand last: most bodies hold none of them.
    ascii_only: list[bytes] = []
    foreign: list[bytes] = []
    for needle in found:
        (ascii_only if needle.isascii() else foreign).append(needle)
    ordered = ascii_only + foreign
    told = tuple(
        Told(
            *found[needle],
            tuple(form for size in range(len(needle), 0, -1) for form in triggers.get(needle[:size], ())),
            leads.get(needle, 0),
        )
        for needle in ordered
    )
    begun = {needle[:size] for needle, (what, _) in found.items() if what == NAME for size in range(1, _SHARED + 1)}
    shadows = frozenset(
        number
        for number, needle in enumerate(ordered)
        if told[number].what in (FORM, COMMAND)
        and any(needle[at] != 95 and needle[at:][:_SHARED] in begun for at in range(1, len(needle)))
    )
    with_forms = [(number, needle, told[number].forms) for number, needle in enumerate(ordered) if told[number].forms]
    edged = frozenset(number for number, _, forms in with_forms if all(form.edge and not form.back for form in forms))
    exact = {number: spelled for number, needle, forms in with_forms if (spelled := _spelled(needle, forms))}
    search_ascii = searcher(ascii_only)
    return Needles(
        told,
        shadows,
        edged,
        exact,
        tuple(bare),
        () if automaton else _OPTIONS,
        _both(search_ascii, len(ascii_only), searcher(foreign)),
        search_ascii,
        searcher(_escaped(), rare=True),
    )


def _both(
    search_ascii: Callable[[bytes], Found], first: int, search_foreign: Callable[[bytes], Found]
) -> Callable[[bytes], Found]:
    """The search for all needles, of which the foreign ones begin with number `first`: two passes, for one automaton of
    both takes thrice the time to build."""

    def search(data: bytes) -> Found:
        found, more = search_ascii(data), search_foreign(data)
        if more:
            found += [(first + number, start, end) for number, start, end in more]
            found.sort(key=_place)
        return found

    return search


def _place(found: tuple[int, int, int]) -> tuple[int, int]:
    """Of two that begin at one place the longer one is first."""
    return found[1], -found[2]


def _words(own: tuple[str, ...], automaton: bool) -> tuple[dict[bytes, tuple[int, object]], dict[bytes, int]]:
    """The words of names and commands, and of how many bytes stand before the first letter of some."""
    found: dict[bytes, tuple[int, object]] = {}
    leads: dict[bytes, int] = {}
    for word in STEMS:
        for spelling in _separated(word):
            found[spelling] = NAME, None
    for word in (*words("short"), *words("ambiguous")):
        for end in ("_", "{", "s_", "0", "value", "hash"):
            found[(word + end).encode().translate(FOLD)] = NAME, None
    for name in own:
        for spelling in _own(name):
            found[spelling] = NAME, None
    for word in words("made"):
        for spelling in _separated(word):
            found.setdefault(spelling + b"__", (NAME, IN_QUOTES))
    named = {needle for needle, (what, told) in found.items() if what == NAME and told is None}
    for word in (*words("keys"), *words("key_parents")):
        for spelling in _separated(word):
            if not _holds(spelling + b"_", named, at=0):  # else the name is asked for its object
                for space in (b"__{", b"___{", b"____{"):
                    found.setdefault(spelling + space, (NAME, PARENT))
    for word in ("code", "código", "код", "Код"):
        found[word.encode().translate(FOLD) + b"_"] = CODE_KEY, None
    found[b"kty_"] = CODE_KEY, None
    for digits in _CARD_NUMBER:
        found[digits] = CARD, None
    for number, command in enumerate(COMMANDS):
        for command_word in command.words:
            is_option = command_word[:2] == b" -"
            if is_option and not automaton:
                continue
            needle = command_word.translate(FOLD) if is_option else _from_letter(command_word, found, leads)
            asked = command_word.lower().translate(BLANKS)
            is_name = any(_holds(needle, named, at=at) for at in range(len(needle)))
            found[needle] = COMMAND, (number, asked, command.inside, is_name)
    for word in _IN_BASE64:
        for code in _in_base64(word):
            found[code.translate(FOLD)] = BASE64, code
    found[b"w0si"] = BASE64, b"W3si"  # [{"
    return found, leads


def _from_letter(word: bytes, found: dict[bytes, tuple[int, object]], leads: dict[bytes, int]) -> bytes:
    """The needle for a trigger or command: from its first letter or digit, unless something else begins there."""
    folded = word.translate(FOLD)
    needle = folded.lstrip(b"_")
    lead = len(folded) - len(needle)
    if leads.get(needle, 0 if needle in found else lead) != lead or (lead and len(needle) < 3):
        return folded
    leads[needle] = lead
    return needle


def _holds(text: bytes, some: set[bytes], *, at: int) -> bool:
    """Whether one of the needles stands there."""
    return any(text[at:end] in some for end in range(at + 1, len(text) + 1))


def _spelled(needle: bytes, forms: tuple[Form, ...]) -> frozenset[bytes]:
    """The triggers that are folded to this needle; none when another one only begins it, or has a blank."""
    triggers = [[t for t in form.triggers if t.translate(FOLD).lstrip(b"_") == needle] for form in forms]
    if not all(triggers) or any(b" " in trigger for form in forms for trigger in form.triggers):
        return frozenset()
    return frozenset(trigger.lower() for some in triggers for trigger in some)


def _near(form: Form) -> Bare:
    last = form.triggers[0][-1:]
    ends = b"|".join(sorted({re.escape(trigger[-4:]) for trigger in form.triggers}))
    letters = bytes(sorted({c for t in form.triggers for c in t[-2:-1].lower() + t[-2:-1].upper()}))
    around = b"(?<=(?i:" + ends + b"))(?=" + form.near + b")"
    return Bare(last, letters, around, re.compile(re.escape(last) + around), form)


def _escaped() -> list[bytes]:
    """The words in other letters as JSON escapes them, in lower case."""
    foreign = [word for word in STEMS if not word.isascii()]
    spelled = [spelling for word in foreign for spelling in (word, word.title(), word.upper())]
    return list(dict.fromkeys(escape_unicode(word)[1:-1].lower().encode() for word in spelled))


def _separated(word: str) -> Iterator[bytes]:
    """`api_key` and `apikey`."""
    parts = word.split("_")
    for mark in product(("", "_"), repeat=len(parts) - 1):
        joined = "".join(part + mark for part, mark in zip(parts, (*mark, ""), strict=True))
        yield joined.encode().translate(FOLD)
        if not joined.isascii():  # CONTRASEÑA: only ASCII is folded
            for spelled in (
                joined.upper(),
                joined.title(),
                joined.capitalize(),
                f"{parts[0].upper()}{joined[len(parts[0]) :]}",
            ):
                yield spelled.encode().translate(FOLD)


def _own(name: str) -> Iterator[bytes]:
    """An operator's name, with a separator in any one place; one that is not ASCII also in capital letters."""
    glued = "".join(c for c in name.lower() if c.isalnum())
    for spelled in {name, name.lower()} | (
        set() if name.isascii() else {name.upper(), name.title(), name.capitalize()}
    ):
        yield spelled.encode().translate(FOLD)
    for at in range(len(glued)):
        joined = glued[:at] + "_" * (at > 0) + glued[at:]
        yield joined.encode().translate(FOLD)
        if not name.isascii():
            yield joined.upper().encode().translate(FOLD)
            yield joined.capitalize().encode().translate(FOLD)


def _in_base64(word: str) -> Iterator[bytes]:
    """Byte strings that occur in the base64 of any text with the word: at three offsets, whole characters only."""
    for offset in range(3):
        code = b64encode(b"\0" * offset + word.encode() + b"\0" * (-(offset + len(word)) % 3)).rstrip(b"=")
        yield code[(0, 2, 3)[offset] : len(code) - (2 if (offset + len(word)) % 3 else 0)]
