"""The words that the scan searches for: ordinary bodies contain none of them, and no layout of a document hides one."""

from __future__ import annotations

import json
import sys

import pytest

from asgi_audit.redaction import Redactor
from asgi_audit.redaction.needles import FOLD, needles

SECRET = "sunflower1234Zk"


@pytest.fixture(params=["automaton", "expression"])
def redactor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Redactor:
    """With `ahocorasick_rs`, and as if it were not installed."""
    if request.param == "expression":
        monkeypatch.setitem(sys.modules, "ahocorasick_rs", None)
    return Redactor()


def body(redactor: Redactor, text: str, kind: bytes = b"application/json", *, cut: bool = False) -> bytes:
    kept = redactor.record().body(text.encode(), kind, "b", cut=cut, valid=kind == b"application/json" and not cut)
    assert kept is not None
    return kept


EVERYDAY = [
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"Key": "photos/1.jpg", "Size": 1, "Owner": {"DisplayName": "m", "ID": "7"}},
    {"id": 1, "name": "home.title", "value": "Willkommen", "type": "text", "note": "confirm it, reset that"},
    {"app": "web", "service": "shop", "account": "7", "client": "mira", "storage": True, "outer": {"key": "x"}},
]  # fmt: skip


@pytest.mark.parametrize("document", EVERYDAY, ids=lambda d: next(iter(d)))
@pytest.mark.parametrize("indent", [None, 2])
def test_everyday_json_holds_nothing_that_is_looked_at(
    redactor: Redactor, document: dict[str, object], indent: int | None
) -> None:
    """Each match would cost a microsecond; the whole search of a kilobyte costs two."""
    data = json.dumps([document], indent=indent).encode()
    assert needles().search_ascii(data.translate(FOLD)) == []
    assert redactor.record().body(data, b"application/json", "b", valid=True) == data


LAYOUTS = [
    '{"openai":{"key":"%s"}}',
    '{"openai": {"key": "%s"}}',
    '{"openai" : {"key": "%s"}}',
    '{"openai":\n  {\n    "key": "%s"\n  }\n}',
    '{"openai":\r\n  {"key": "%s"}}',
    '{"openai": {\n    "region": "eu",\n    "Key": "%s"}}',
    '{"stripe-api": {"mode": "live", "key": "%s"}}',
    '{"x": 1, "user_api": {"key": "%s"}}',
    '{"auth": {"key": "%s"}}',
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_key_in_an_object_whose_name_tells_is_masked(redactor: Redactor, layout: str) -> None:
    kept = body(redactor, layout % SECRET)
    assert SECRET.encode() not in kept
    assert kept.decode() == layout % "[REDACTED]"


@pytest.mark.parametrize(
    "text",
    [
        '{"outer": {"key": "%s"}}',
        '{"openai": {"other": {"key": "%s"}}}',
        '{"openai": {"mode": "x"}, "key": "%s"}',
    ],
)
def test_key_in_another_object_stays(redactor: Redactor, text: str) -> None:
    assert body(redactor, text % SECRET).decode() == text % SECRET


def test_reference_and_word_under_key_stay(redactor: Redactor) -> None:
    text = '{"kms": {"key": "alias/orders"}, "storage": {"key": "photos"}}'
    assert body(redactor, text).decode() == text


@pytest.mark.parametrize("name", ["contraseña", "CONTRASEÑA", "пароль", "ПАРОЛЬ", "Пароль"])
def test_name_in_other_letters_is_found_behind_escapes_too(redactor: Redactor, name: str) -> None:
    for ascii_only in (False, True):
        text = json.dumps({"a": 1, name: SECRET}, ensure_ascii=ascii_only)
        assert SECRET.encode() not in body(redactor, text)


@pytest.mark.parametrize(
    "text",
    [
        "run curl -u mira:%s https://h/",
        "curl\n  -u 'mira:%s' https://h/",
        "see https://app.example/Confirm/%s-a1B2c3D4e5",
        "see https://app.example/account-reset/uid7/%s-a1B2c3D4e5 now",
        "call 1234567890:AA%s-a1B2c3D4e5F6g7H8i9",
    ],
)
def test_what_begins_with_a_mark_is_found(redactor: Redactor, text: str) -> None:
    assert SECRET.encode() not in body(redactor, text % SECRET, b"text/plain")


def test_link_is_found_where_a_body_is_cut(redactor: Redactor) -> None:
    assert b"a1B2c3D4" not in body(redactor, "see https://app.example/reset/a1B2c3D4", b"text/plain", cut=True)


def test_no_word_of_ascii_begins_with_a_separator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth byte is a separator: the expression would take twice as long."""
    monkeypatch.setitem(sys.modules, "ahocorasick_rs", None)
    assert {start for _, start, _ in needles().search_ascii(b"_password_pin__openai__{_webhook_office_com_")} <= {
        1, 10, 15, 25
    }  # fmt: skip


def test_tables_are_built_once() -> None:
    """Building them takes 15 ms of an application's start."""
    assert needles() is needles()
    assert needles(("tax_number",)) is needles(("tax_number",))
    assert needles(("tax_number",)) is not needles()
