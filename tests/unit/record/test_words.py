"""Goal: the words of a text are exactly those that SQLite's `unicode61` finds. Method: both get each code point alone
between two letters, and texts of hypothesis."""

from __future__ import annotations

import sys
from collections.abc import Callable

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_audit.errors import QueryError
from asgi_audit.record.words import phrases_of, words

_database = apsw.Connection(":memory:")
_unicode61: Callable[..., list[str]] = _database.fts5_tokenizer("unicode61", [])


def of_sqlite(text: str) -> list[str]:
    return list(
        _unicode61(
            text.encode("utf-8"), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False
        )
    )


def test_each_code_point_is_taken_as_sqlite_takes_it() -> None:
    """Alone between two letters and at the beginning of a word, in texts of 4,096 code points."""
    points = [p for p in range(sys.maxunicode + 1) if not 0xD800 <= p < 0xE000]
    for at in range(0, len(points), 4096):
        text = " ".join(f"a{chr(p)}b {chr(p)}c" for p in points[at : at + 4096])
        assert words(text) == of_sqlite(text), f"among the code points from {points[at]:x} on"


LETTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from("aZéÉ\u0301\u0327ßİıſ→-_. \"'\0Ǆ𐐀9²")


@settings(max_examples=500)
@given(st.text(LETTERS))
def test_words_are_those_of_sqlite_when_the_text_is_any(text: str) -> None:
    found = words(text)
    assert found == of_sqlite(text)
    assert words(" ".join(found)) == found, "folding twice changes nothing: a search gives folded words to the store"


def test_surrogates_divide_words_when_they_stand_in_a_text() -> None:
    assert words("a\ud800b") == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("login", [["login"]]),
        ("Alice  LOGIN alice", [["alice"], ["login"]]),
        ('"POST /login" 401', [["post", "login"], ["401"]]),
        ('a"b c"d', [["a"], ["b", "c"], ["d"]]),
        ('"b c', [["b"], ["c"]]),
        ('a "b c" d "e f', [["a"], ["b", "c"], ["d"], ["e"], ["f"]]),
        ('"" x', [["x"]]),
        ("a OR b NOT c*", [["a"], ["or"], ["b"], ["not"], ["c"]]),
        ("naïve", [["naive"]]),
    ],
)
def test_phrases_are_quoted_words_in_order_and_each_other_word(text: str, phrases: list[list[str]]) -> None:
    assert [list(p) for p in phrases_of(text)] == phrases


@pytest.mark.parametrize("text", ["", " ", '""', "→ , /", '"→"', "\0", "\u0301"])
def test_search_without_a_word_is_refused_naming_its_parameter(text: str) -> None:
    with pytest.raises(QueryError, match="text: it has no word") as raised:
        phrases_of(text)
    assert (raised.value.kind, raised.value.field) == ("invalid", "text")
