"""An operator's own names, forms and paths: accepted forms match in one way only; errors describe the accepted
values."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from tests.support.machine import processor_time, within

from asgi_audit.errors import ConfigError
from asgi_audit.settings import make_settings
from asgi_audit.settings.masking import LONGEST, own_form, own_name, own_path

ACCEPTED = (
    r"acme_[a-z0-9]{32}",
    r"acme_(live|test)_[A-Za-z0-9]{8,40}",
    r"(?:acme|globex)-\d{6}-[A-Z]?[a-z]{2}",
    r"(?i)acme:[0-9a-f]{3,}",
    r"acme\.\w{8}",
    r"acme token\s[a-z]{8}",
    r"acme-[\]\-x\x41]{8}",
    r"acme-[a-z0-9-]{3,}_*",
    r"acme_(eu|us)?[0-9]{8}",
)


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_form_matches_what_the_expression_means(text: str) -> None:
    """Compared with Python's own interpretation of the expression, on seeded texts that almost match."""
    form = own_form(text)
    mine = re.compile(form.expression)
    theirs = re.compile(text.encode())
    rng = random.Random(text)
    matched = 0
    for _ in range(3_000):
        begun = rng.choice(form.triggers)
        rest = bytes(rng.choices(b"abxyzAZ0189_-.: live]eu", k=rng.randrange(60)))
        if rng.random() < 0.5:
            rest = bytes(rng.choices(rng.choice([b"abc012", b"0123456789", b"x-]A", b"liveustest_ab0"]), k=40))
        data = rng.choice([begun, begun.upper()]) + rest
        assert bool(mine.match(data)) == bool(theirs.match(data)), data
        if (found := mine.match(data)) is not None:
            matched += 1
            expected = theirs.match(data)
            assert expected is not None
            assert found.span() == expected.span()
            assert data.lower().startswith(form.triggers)
    assert matched or "token" in text or "(?:" in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a", "at least 8 characters"),
        ("acme_", "at least 8 characters"),
        ("acme_[a-z]*", "at least 8 characters"),
        ("ac[0-9]{9}", "at least 3 fixed characters"),
        ("#acme[0-9]{9}", "the first of them a letter"),
        ("[a-z]{20}", "at least 3 fixed characters"),
        ("acme_.{20}", r"written `\."),
        ("^acme_[0-9]{9}", r"written `\^"),
        ("acme_[a-z]+[a-z0-9]{4}", "must not be followed by a character that it also matches"),
        ("acme_a?abcdefgh", "must not be followed by a character that it also matches"),
        ("acme_[a-z]+[0-9]*[a-f]{8}", "must not be followed by a character that it also matches"),
        ("acme_(a|ab)[0-9]{9}", "beginning of another"),
        ("acme_(aaaaaaaa)+", "not be repeated"),
        ("acme_(a+)+aaaaaaaa", "fixed words"),
        ("acme_(?=x)aaaaaaa", "fixed words"),
        ("(?i)acme_(a|b)[0-9]{9}", "combined with groups"),
        ("acme_(a", "fixed words"),
        (r"acme_\bxxxxxxxx", r"not `\b`"),
        ("acme_\\", "not `\\`"),
        ("acme_é[a-z]{9}", "ASCII"),
        ("acme_" + "a" * 200, "at most 200 characters"),
        ("acme_[^a]{9}", "lists its characters"),
        ("acme_[a-z", "must end with `]`"),
        ("acme_[z-a]{9}", "a range goes from"),
        ("acme_[]{9}", "not be empty"),
        ("acme_[a-z]{3", "{3,40}"),
        ("acme_[a-z]{9}{4}", "one repeat must not follow another"),
        ("acme_[a-z]{4,9}?xxxx", "one repeat must not follow another"),
        ("acme_[a-z]{9,4}", "to a greater one"),
        ("acme_[a-z]{9999}", "at most 4096"),
        ("acme_[a-z]+_[a-z]+_[a-z]+_[a-z]+", "at most 16384 characters"),
        ("acme_*+aaaaaaaaaaaaaa", "one repeat must not follow another"),
        ("acme_aaaaaaaa|b", r"`|` must be written as `\|`"),
    ],
)
def test_refused_form_says_what_is_accepted(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        own_form(text)
    with pytest.raises(ConfigError, match=re.escape(why)) as caught:
        make_settings({}, redact_forms=["acme_[0-9]{9}", text])
    assert "of number 2: " in str(caught.value)


def test_form_without_an_end_takes_linear_time_when_attacked() -> None:
    """Each accepted shape against near misses: an attempt takes no longer than the text that it consumes."""
    for text in (*ACCEPTED, r"acme_[a-z]+\d{3}!", r"acme_a*b*c*d*e*f*!!!!!!!!", r"acme_[a-z]{8,}\d?_?-?!"):
        match = re.compile(own_form(text.replace("a*b*c*d*e*f*", "[a-c]{0,2000}[d-f]{0,2000}")).expression).match
        for filling in (b"a", b"ab", b"abcdef", b"0a", b"a_", b"aaaa1"):
            data = b"acme_" + filling * (LONGEST // len(filling)) + b"\n"
            spent = within(lambda m=match, d=data: processor_time(lambda: m(d)), 0.002)  # type: ignore[misc]
            assert spent <= 0.002, (text, filling)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("/share/{token}", ("share", None)),
        ("share/{token}/", ("share", None)),
        ("/o/*/dl/{key}/x", ("o", "*", "dl", None, "x")),
    ],
)
def test_accepted_path(text: str, rule: Any) -> None:
    assert own_path(text) == rule


@pytest.mark.parametrize("text", ["/", "/share", "/{token}", "/*/{token}", "/a/{b", "/a b/{c}", "/a?b/{c}", "/a/x{b}"])
def test_refused_path_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ConfigError, match=r"/share/\{token\}"):
        make_settings({}, redact_paths=[text])


@pytest.mark.parametrize("text", ["---", "x" * 41])
def test_refused_name_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="a letter or digit"):
        own_name(text)
    with pytest.raises(ConfigError, match="of number 1: a name needs a letter or digit"):
        make_settings({}, redact_names=[text])


def test_too_many_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 200 names"):
        make_settings({}, redact_names=[f"n{i}" for i in range(201)])


def test_environment_separates_forms_by_white_space_and_paths_by_commas() -> None:
    settings = make_settings(
        {
            "ASGI_AUDIT_REDACT_FORMS": "acme_[a-z]{8,40}  globex-[0-9]{1,3}-x{8}\n",
            "ASGI_AUDIT_REDACT_PATHS": "/share/{token}, /o/{key}",
        }
    )
    assert settings.redact_forms == ("acme_[a-z]{8,40}", "globex-[0-9]{1,3}-x{8}")
    assert settings.redact_paths == ("/share/{token}", "/o/{key}")
