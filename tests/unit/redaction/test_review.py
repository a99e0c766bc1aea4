"""Names, tables, signs and parts that the redaction missed before a review."""

from __future__ import annotations

import json

import pytest
from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.redaction.names import NO, YES, Names, is_label

BUILDER = make_builder()
NAMES = Names()
S = "Zq7Hunter2xK"


def record(text: str, kind: str) -> bytes:
    built = BUILDER.build(make_exchange("POST", body=text.encode(), content_type=kind.encode() or None))
    assert checked(built)["context"]["requestBody"]["captured"] == "full"
    return built


@pytest.mark.parametrize(
    "name",
    ["tokenizer_secret", "tokenizer_signing_key", "tokenizersecret", "com.password", "compassword", "tokenizer_otp"],
)
def test_a_harmless_word_takes_nothing_of_a_sensitive_one(name: str) -> None:
    assert NAMES.kind(name.encode()) == YES


@pytest.mark.parametrize(
    "name", ["tokenizer", "tokenizers", "secretary_name", "compass", "imagePullSecrets", "token_type_hint"]
)
def test_harmless_words_are_kept(name: str) -> None:
    assert NAMES.kind(name.encode()) == NO


@pytest.mark.parametrize("name", ["invalid_password", "wrong_password", "failed_password", "existing_password"])
def test_what_was_tried_is_masked_and_a_message_is_kept(name: str) -> None:
    assert S.encode() not in record(json.dumps({name: S}), "application/json")
    assert b"try again" in record(json.dumps({name: "try again"}), "application/json")


@pytest.mark.parametrize(
    "table",
    [
        '"user","password"\r\n"a\nb","%s"\r\n',
        'user,password\r\n"a\nb",%s\r\n',
        'note,password\n"line one\n\nline, two",%s\n',
        "title: a, b\nuser,password\nmira,%s\n",
        "a,b\n1,2\nuser,password\nmira,%s\n",
        "user,password\n\nmira,%s\n",
        "user,password\rmira,%s\r",
        "password\t%s\nuser\tmira",
    ],
)
def test_table_hides_the_cell(table: str) -> None:
    built = record(table % S, "text/csv")
    assert S.encode() not in built
    assert (b"mira" in built) == ("mira" in table)


@pytest.mark.parametrize(
    "text",
    [
        "密码：%s", "パスワード：%s", "password＝%s", "password — %s", "Password – %s", "Ваш пароль — %s",
        "\x1b[36mpassword\x1b[0m=\x1b[35m%s\x1b[0m user=mira", "\x1b[1mpassword\x1b[0m: \x1b[32m%s\x1b[0m",
    ],
)  # fmt: skip
def test_signs_between_name_and_value(text: str) -> None:
    assert S.encode() not in record(text % S, "text/plain")
    assert S.encode() not in record(json.dumps({"log": text % S}), "application/json")
    assert S.encode() not in record(json.dumps({"log": text % S}, ensure_ascii=False), "application/json")


@pytest.mark.parametrize("name", ["密码", "Пароль", "contraseña"])
def test_names_in_other_letters_that_json_escapes(name: str) -> None:
    assert S.encode() not in record(json.dumps({name: S}), "application/json")
    assert S.encode() not in record(json.dumps({"a": f"{name}: {S}"}), "application/json")


@pytest.mark.parametrize("kind", ["", "text/plain"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_multipart_without_its_label(kind: str, end: str) -> None:
    text = end.join(
        [
            "--X", 'Content-Disposition: form-data; name="user"', "", "mira", "--X",
            'Content-Disposition: form-data; name="password"', "Content-Type: text/plain", "", S, "--X--", "",
        ]
    )  # fmt: skip
    built = record(text, kind)
    assert S.encode() not in built
    assert b"mira" in built
    assert S.encode() not in record(json.dumps({"raw": text}), "application/json")


@pytest.mark.parametrize("beside", ["", "&q=a%2Cb", "&q=a%2525b", "&code=x&state=y"])
def test_words_of_a_form_that_a_plus_separates_are_read(beside: str) -> None:
    kind = "application/x-www-form-urlencoded"
    built = record("to=mira&note=Your+code+is+483920" + beside, kind)
    assert b"483920" not in built
    assert b'"note":"Your code is [REDACTED]"' in built
    asked = BUILDER.build(make_exchange("GET", query=b"note=Your+code+is+483920" + beside.encode()))
    assert b"483920" not in asked


_KEY = "-----BEGIN RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f'{{"k":"{_KEY}\\nabc","password":"{S}"}}', "application/json"),
        (f'{{"k":"{_KEY}\\nabc","l":"{_KEY}\\n{S}"}}', "application/json"),
        (f'{{"k":"{_KEY}","a":[{{"pin":"{S}"}}],"l":"-----END RSA PRIVATE KEY-----"}}', "application/json"),
        (f"k={_KEY}abc&password={S}", "application/x-www-form-urlencoded"),
        (f"k={_KEY}%0Aabc&api%20key={S}", "application/x-www-form-urlencoded"),
        (f"<a><k>{_KEY}abc</k><password>{S}</password></a>", "application/xml"),
        (f'data: {{"k":"{_KEY}"}}\n\ndata: {{"password":"{S}"}}\n\n', "text/event-stream"),
    ],
)
def test_a_private_key_without_its_last_line_hides_no_secret_behind_it(text: str, kind: str) -> None:
    built = record(text, kind)
    assert S.encode() not in built
    assert b"BEGIN RSA" not in built


def test_many_private_keys_without_a_last_line_are_paid_for() -> None:
    built = BUILDER.build(make_exchange("POST", body=_KEY.encode() * 2_000, content_type=b"text/plain"))
    assert b"BEGIN RSA" not in built


@pytest.mark.parametrize(
    "text",
    [
        "ENV DB_PASSWORD §",
        "setx API_TOKEN §",
        "machine h login mira password §",
        "RequestHeader set X-Api-Key §",
    ],
)
def test_a_line_that_sets_a_name_has_a_value_that_may_read_as_a_name(text: str) -> None:
    for secret in ("SuperSecretPassword", "my-secret-token"):
        assert secret.encode() not in record(text.replace("§", secret), "text/plain")


def test_an_element_that_closes_far_away_is_no_placeholder() -> None:
    rows = "".join(f"  <entry>sunflower{n}</entry>\n" for n in range(200))
    assert b"sunflower" not in record(f"<passwords>\n{rows}</passwords>", "application/xml")


def test_a_word_in_capitals_is_an_error_only_when_it_says_so() -> None:
    assert is_label(b"PASSWORD_REUSED")
    assert is_label(b"INVALID_TOKEN")
    assert not is_label(b"SUPER_SECRET_PASSWORD")
