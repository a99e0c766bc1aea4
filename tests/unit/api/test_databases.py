"""Goal: `database` of an export is parsed as its schema describes: parts in percent-encoded UTF-8, of 1 to 200
characters."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_audit.api.dialects.exports import _parts
from asgi_audit.api.dialects.exports.models import _database

NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=1, max_size=3)


@given(NAMES)
@example(["\x00", "\x7f\x80\u07ff\u0800", "\ud7ff\ue000\uffff\U00010000\U0010ffff"])
@example(["%", "/", "é" * 200])
def test_every_name_is_one_part_when_it_is_percent_encoded(names: list[str]) -> None:
    database = "/".join(["classic", *(quote(name, safe="") for name in names)])
    assert _parts(_database(database))[: len(names) + 1] == ("classic", *names)


@pytest.mark.parametrize(
    "wrong",
    [
        None, 5, [], "", "classic", "/", "classic/", "/acme", "classic/a/b/c/d", "classic/%", "classic/%4g",
        "classic//x", "classic/%4", "classic/%FF", "classic/%C3", "classic/%C3x", "classic/%C0%80", "classic/%C1%BF",
        "classic/%E0%9F%BF", "classic/%ED%A0%80", "classic/%F0%8F%BF%BF", "classic/%F4%90%80%80", "classic/\ud800",
        "classic/" + "x" * 201, "classic/" + "%41" * 201, "classic/" + "x" * 2_000,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_percent_encoded_utf_8_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):
        _database(wrong)


@given(st.text(alphabet="%0123456789abcdefABCDEFé/x", max_size=30).map(lambda text: "classic/" + text))
def test_what_is_taken_can_be_decoded(text: str) -> None:
    try:
        taken = _database(text)
    except ValueError:
        return
    assert 2 <= len([part for part in _parts(taken) if part]) <= 4
