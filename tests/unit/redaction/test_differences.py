"""Secrets that a comparison with an earlier revision showed in clear, ordinary text that it showed masked, and bodies
that cost too much."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.exchanges import make_body, make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.redaction import Redactor

BUILDER = make_builder()
S = "Hx7sunflower9Zq"
UUID = "550e8400-e29b-41d4-a716-446655440000"
JSON, TEXT, HTML, XML = "application/json", "text/plain", "text/html", "application/xml"


def sent(text: str, kind: str, cut: int | None = None) -> Any:
    """The body of the request in its record."""
    x = make_exchange("POST", content_type=kind.encode())
    x.request_body = make_body(text.encode(), kept=cut)
    return checked(BUILDER.build(x))["request"]["body"]


def received(text: str, kind: str, cut: int | None = None) -> Any:
    """The body of the response in its record."""
    x = make_exchange("GET", answer_type=kind.encode())
    x.response_body = make_body(text.encode(), kept=cut)
    return checked(BUILDER.build(x))["response"]["body"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        # Objects under a sensitive name that hold a number are no rule of how it must be.
        ('{"pin":{"admin":4821}}', JSON),
        ('{"pin":{"message":4821}}', JSON),
        ('{"otp":{"package":4821}}', JSON),
        # `pass` beside `failed` is a count only when it is a number.
        (f'{{"user":"root","pass":"{S}","failed":true}}', JSON),
        (f'{{"user":"root","pass":"{S}","skipped":3}}', JSON),
        # An error that quotes one value may hold another.
        (f'{{"field":"password","message":"got \'Abc123xy\' for token={S}"}}', JSON),
        (f'{{"field":"password","message":"got \'Abc123xy\' at https://u:{S}@h/x"}}', JSON),
        (f'{{"field":"password","message":"got \'Abc123xy\' {"x " * 600} Bearer abcdef{S}"}}', JSON),
        # An object beside the label without a label of its own.
        (f'{{"name":"password","source":{{"type":"env"}},"value":"{S}"}}', JSON),
        (f'{{"key":"API_KEY","element":{{"x":"y"}},"value":"{S}"}}', JSON),
        # Names that end in a number.
        (f'{{"columns":["id","api_key_01"],"rows":[[1,"{S}"]]}}', JSON),
        (f"<table><tr><td>Password 10</td><td>{S}</td></tr></table>", HTML),
        (f"<table><tr><th>id</th><th>password01</th></tr><tr><td>1</td><td>{S}</td></tr></table>", HTML),
        (f'[["id","password01"],["1","{S}"],["2","{S}"]]', JSON),
        (f'[["api_key_01","{S}"],["user","m"]]', JSON),
        (f"<dict><key>password10</key><string>{S}</string></dict>", XML),
        # Only variables begin with a dollar and a small letter.
        ("password: $TulipGarden, user: m\n", TEXT),
        # A line below a path that is no route.
        (f"auth/token:\n{S}\n", TEXT),
        (f"secrets/password:\n  {S}\n", TEXT),
        # Old passwords.
        (f'{{"password_history":["{S}"]}}', JSON),
        (f'{{"passwordHistory":"{S}"}}', JSON),
    ],
)
def test_masked(text: str, kind: str) -> None:
    for body in (sent(text, kind), received(text, kind)):
        shown = json.dumps(body)
        assert "[REDACTED]" in shown
        assert S not in shown
        assert "4821" not in shown
        assert "TulipGarden" not in shown


@pytest.mark.parametrize(
    "word", ["login-verify", "session-reset", "join-confirmation", "hooks-secret", "verify/code", "magic/login"]
)
def test_uuid_in_a_path_after_words_of_which_one_says_that_it_is_a_credential(word: str) -> None:
    record = checked(BUILDER.build(make_exchange(path=f"/{word}/{UUID}")))
    assert record["request"]["path"] == f"/{word}/[REDACTED]"


@pytest.mark.parametrize("value", ["Password", "Passwort", "Mot de passe", "Enter your password"])
def test_a_label_is_kept_in_a_response_and_is_a_password_in_a_request(value: str) -> None:
    text = json.dumps({"user": "m", "password": value}, ensure_ascii=False)
    assert received(text, JSON) == {"user": "m", "password": value}
    assert sent(text, JSON) == {"user": "m", "password": "[REDACTED]"}
    assert sent(f"user=m&password={value}", "application/x-www-form-urlencoded")["password"] == "[REDACTED]"


@pytest.mark.parametrize("value", ["Password!", "Secret!"])
def test_a_name_with_a_mark_behind_it_is_a_password(value: str) -> None:
    assert received(json.dumps({"password": value}), JSON) == {"password": "[REDACTED]"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"user":"m","password":"Password', JSON),
        ('{"message":"{\\"password\\": \\"Password', JSON),
        ("<r><clientSecret>Password", XML),
        ("user: m\npassword: Password", TEXT),
        ("<input name=password value=Password", HTML),
    ],
)
def test_the_beginning_of_a_value_that_is_cut_off_is_no_label(text: str, kind: str) -> None:
    body = received(text + "123!xyz", kind, cut=len(text))
    assert "[REDACTED]" in json.dumps(body)
    assert "Password" not in json.dumps(body)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Resetting password.... done\n", TEXT),
        ("Checking token ..... OK\n", TEXT),
        ("I forgot my password.... so I reset it\n", TEXT),
        ("user mira logged on >dashboard now\n", TEXT),
        ("echo on >output.txt\n", TEXT),
        ("paths:\n  /auth/token:\n    post:\n      summary: x\n  /password:\n    $ref: a.yaml\n", "application/yaml"),
        ('{"loc":["body","password"],"msg":"String should match pattern \'^[A-Z]{8}$\'"}', JSON),
        ('{"field":"password","message":"see \'https://h.example/rules#x\' for its rules"}', JSON),
        ('{"password":{"minLength":8,"maxAge":90,"min_digits":1,"attempts":5,"required":true}}', JSON),
        ('{"tests":{"pass":12,"fail":1}}', JSON),
        ('{"passwordHistory":5}', JSON),
    ],
)
def test_kept(text: str, kind: str) -> None:
    body = received(text, kind)
    assert body == (json.loads(text) if kind == JSON else text)


@pytest.mark.parametrize("depth", [20, 100])
@pytest.mark.parametrize("value", ["true", '{"a":true}'])
def test_rules_of_secrets_inside_each_other_are_paid_for(depth: int, value: str) -> None:
    members = ",".join(f'"a{number}":{value}' for number in range(1_200))
    text = '{"password":' * depth + "{" + members + "}" + "}" * depth
    assert Redactor().record().body(text.encode(), JSON.encode(), "response.body", valid=True) is None


def test_sources_inside_each_other_are_read_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from asgi_audit.redaction import json_beside

    calls = 0
    norm = json_beside.norm

    def counted(name: str) -> str:
        nonlocal calls
        calls += 1
        return norm(name)

    monkeypatch.setattr(json_beside, "norm", counted)
    depth = 150
    text = '{"source":' * depth + '{"name":"password","value":"x"}' + "}" * depth
    BUILDER.build(make_exchange("POST", body=text.encode(), content_type=JSON.encode()))
    assert calls < 10 * depth
