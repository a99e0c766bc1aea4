"""Splits texts and searches into words: one tokenizer, for every store.

A word is a run of letters, digits and all other characters that are not punctuation, space or symbol in Unicode 6.1; it
is folded to lower case without diacritics, one code point at a time. `POST /naïve-Path → 401` has the words `post`,
`naive`, `path`, `401`. This is what SQLite's full-text tokenizer `unicode61` does, and a test holds both equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import QueryError
from .unicode61 import FOLDS, MARKS, TOKENS

__all__ = ["Phrases", "phrases_of", "words"]

Phrases = tuple[tuple[str, ...], ...]
"""Phrases, all of which must occur; each is a tuple of words that must follow each other directly, in this order."""


def _of_class(ranges: str) -> str:
    """The inside of a regular expression's brackets."""
    ends = [(low, high or low) for low, _, high in (r.partition("-") for r in ranges.split())]
    return "".join(f"\\U{int(low, 16):08x}-\\U{int(high, 16):08x}" for low, high in ends)


def _folds() -> Iterator[tuple[int, int]]:
    steps = {">": (1, 1), "+": (2, 2), "=": (1, 0)}
    for run in FOLDS.split():
        start, sign, target = re.split("([>+=])", run)
        first, _, count = start.partition(".")
        step, target_step = steps[sign]
        for n in range(int(count or 1)):
            yield int(first, 16) + n * step, int(target, 16) + n * target_step


def _marks() -> Iterator[int]:
    for low, _, high in (r.partition("-") for r in MARKS.split()):
        yield from range(int(low, 16), int(high or low, 16) + 1)


_find = re.compile(f"[{_of_class(TOKENS)}][{_of_class(TOKENS)}{_of_class(MARKS)}]*").findall
_FOLDED: dict[int, int | None] = {**dict(_folds()), **dict.fromkeys(_marks())}


def words(text: str) -> list[str]:
    """In their order, folded, repeats kept."""
    return [word.translate(_FOLDED) for word in _find(text)]


def phrases_of(text: str) -> Phrases:
    """The phrases of a search text. Words inside double quotes are one phrase; every other word is a phrase of one
    word. A single quote mark without its partner only separates words, as all punctuation does; there is no other
    syntax.

    Raises QueryError ('invalid', naming `text`) for a text without a word."""
    parts = text.split('"')
    if len(parts) % 2 == 0:  # the last quote has no partner
        parts[-2:] = [" ".join(parts[-2:])]
    found: dict[tuple[str, ...], None] = {}
    for number, part in enumerate(parts):
        said = words(part)
        if number % 2:
            found[tuple(said)] = None
        else:
            found.update(dict.fromkeys((word,) for word in said))
    found.pop((), None)
    if not found:
        raise QueryError(
            "text: it has no word; accepted: at least one word of letters or digits",
            field="text",
            hint="Only whole words are found; punctuation and spaces separate them.",
        )
    return tuple(found)
