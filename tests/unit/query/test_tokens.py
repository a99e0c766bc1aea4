"""Sealed tokens open only unchanged, in time, and for the kind, dialect and accounts that they were sealed for."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_audit.errors import QueryError
from asgi_audit.query.tokens import TOKEN_MAX, Sealer, Token, TokenKind, index_mark, of_index
from asgi_audit.record.derived import LEVELS
from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import IndexVersion, Query
from asgi_audit.store.query import statuses_of

SEALER = Sealer(b"s" * 32)
ACCOUNTS = frozenset({"acme", "beta"})
QUERY = Query(accounts=ACCOUNTS, start=1_700_000_000_000, end=1_700_000_100_000, service="gateway", instance="i1")


def token(kind: TokenKind = TokenKind.PAGE, **changed: Any) -> Token:
    made = Token(kind=kind, dialect="usage", query=QUERY, published=77, before=5 << 16, expires=1000)
    return dataclasses.replace(made, **changed)


REFUSED = {
    TokenKind.EXECUTION: ("execution", "missing"),
    TokenKind.PAGE: ("page_token", "invalid"),
    TokenKind.FEED: ("after", "invalid"),
}

text = st.none() | st.text(max_size=30)


@given(
    query=st.builds(
        Query,
        accounts=st.none() | st.frozensets(st.text(max_size=8), max_size=4),
        start=st.integers(0, TIME_END),
        end=st.integers(0, TIME_END),
        service=text,
        instance=text,
        method=text,
        levels=st.none() | st.frozensets(st.sampled_from(LEVELS)),
        text=st.none() | st.text(max_size=20).map(lambda t: t + " word"),
        principal=text,
        operation=text,
        request_id=text,
        failure=st.none() | st.booleans(),
        region=text,
        statuses=st.none() | st.just(statuses_of("4xx,500")),
        outcome=st.none() | st.just("failed"),
        path_prefix=st.none() | st.just("/api"),
        order=st.sampled_from(["newest", "oldest"]),
    ),
    published=st.integers(0, 1 << 60),
    before=st.none() | st.integers(0, (1 << 63) - 1),
    kind=st.sampled_from(TokenKind),
    index=st.binary(max_size=8),
    total=st.none() | st.integers(0, 1 << 40),
)
def test_token_opens_as_it_was_sealed(
    query: Query, published: int, before: int | None, kind: TokenKind, index: bytes, total: int | None
) -> None:
    made = token(kind, query=query, published=published, before=before, index=index, total=total)
    assert SEALER.open(SEALER.seal(made), kind, "usage", query.accounts, 999.9) == made


def test_token_is_short_and_safe_in_urls() -> None:
    sealed = SEALER.seal(token(TokenKind.EXECUTION, index=b"i" * 8))
    assert len(sealed) < 200
    assert all(c.isalnum() or c in "-_" for c in sealed)


def test_token_cannot_be_read() -> None:
    sealed = SEALER.seal(token())
    data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for text in (b"acme", b"gateway", b"usage"):
        assert text not in data


@pytest.mark.parametrize("kind", list(TokenKind))
def test_token_tells_nothing_of_its_numbers_by_length_or_by_likeness(kind: TokenKind) -> None:
    """They number the batches of all accounts. Two tokens of the same content share only the version byte: otherwise a
    client could see from equal tokens that no account had new records in between."""
    made = [token(kind, published=n, before=m) for n in (0, 1, 300, 1 << 40) for m in (0, 7 << 16, 1 << 62)]
    sealed = [SEALER.seal(t) for t in (*made, *made)]
    assert len({len(text) for text in sealed}) == 1
    assert len({text[2:12] for text in sealed}) == len(sealed)


def test_token_of_another_index_or_generation_is_refused() -> None:
    here = IndexVersion("a", 2)
    of_index(token(index=index_mark(here)), here)
    of_index(token(index=index_mark(IndexVersion())), here)  # it began before there was an index, so it has no rows
    for other in (IndexVersion("a", 1), IndexVersion("b", 2), IndexVersion()):
        with pytest.raises(QueryError, match="another index"):
            of_index(token(index=index_mark(here)), other)


@pytest.mark.parametrize("kind", list(TokenKind))
def test_token_is_refused_when_a_single_character_changes(kind: TokenKind) -> None:
    sealed = SEALER.seal(token(kind))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for at in range(len(sealed)):
        for other in alphabet if at == len(sealed) - 1 else "A_":
            if other != sealed[at]:
                with pytest.raises(QueryError):
                    SEALER.open(sealed[:at] + other + sealed[at + 1 :], kind, "usage", ACCOUNTS, 0)


@pytest.mark.parametrize(
    "spoiled",
    ["", "A", "AAAA", "é" * 9, "x" * (TOKEN_MAX + 1), "{0}=", "{0}==", "{0}A", " {0}", "{0}\n", "{0}{0}", "\ud800"],
)
def test_token_is_refused_when_it_is_no_token(spoiled: str) -> None:
    text = spoiled.format(SEALER.seal(token()))
    with pytest.raises(QueryError) as caught:
        SEALER.open(text, TokenKind.PAGE, "usage", ACCOUNTS, 0)
    assert (caught.value.field, caught.value.kind) == ("page_token", "invalid")


@pytest.mark.parametrize("kind", list(TokenKind))
@pytest.mark.parametrize(
    "change",
    [
        {"kind": True},
        {"dialect": "trail"},
        {"accounts": frozenset({"acme"})},
        {"accounts": None},
        {"accounts": frozenset()},
        {"now": 1000.0},
        {"sealer": Sealer(b"t" * 32)},
    ],
)
def test_token_is_refused_with_its_field_when_used_elsewhere(kind: TokenKind, change: dict[str, Any]) -> None:
    sealed = change.get("sealer", SEALER).seal(token(kind))
    asked = TokenKind(kind % len(TokenKind) + 1) if "kind" in change else kind
    with pytest.raises(QueryError) as caught:
        SEALER.open(
            sealed,
            asked,
            change.get("dialect", "usage"),
            change.get("accounts", ACCOUNTS),
            change.get("now", 999.0),
        )
    assert (caught.value.field, caught.value.kind) == REFUSED[asked]


def test_execution_refusals_have_one_text_so_that_nothing_is_learnt() -> None:
    sealed = SEALER.seal(token(TokenKind.EXECUTION))
    texts = set()
    for asked, dialect, accounts, now in [
        ("nonsense", "usage", ACCOUNTS, 0.0),
        (sealed, "trail", ACCOUNTS, 0.0),
        (sealed, "usage", frozenset({"other"}), 0.0),
        (sealed, "usage", ACCOUNTS, 2000.0),
    ]:
        with pytest.raises(QueryError) as caught:
            SEALER.open(asked, TokenKind.EXECUTION, dialect, accounts, now)
        texts.add(str(caught.value))
    assert len(texts) == 1
