"""Values that look like placeholders under a sensitive name: masks and templates are kept, values that people choose
are masked."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked

BUILDER = make_builder()
CHOSEN = (
    "$Summer2024", "$Summer", "$SUMMER2024", "${Summer2024}", "{Hunter2xy}", "{hunter2xy}",
    "%Hunter2x%",
    "[Hunter pass]", ":hunter2two", "12.34.567", "v12.34.5678", "Bearer $Summer2024", "$(Hunter2xy)",
)  # fmt: skip
DATA_ONLY = (
    "<Hunter2 xy>",
    ":hunter_two",
    "{hunter}",
    "<hunter xy>",
    "%hunter%",
    "[hunter pass]",
    "$hunter",
    "?",
    "%s",
    "$9",
)
HOLDERS = (
    "*****", "....", "[REDACTED]", "[redacted]", "${{ secrets.X }}", "{{ vault.password }}",
    "$DB_PASSWORD", "${DB_PASSWORD}",
    "Bearer $TOKEN", "required", "^9.0.2", "2.0.0",
)  # fmt: skip


def body(data: str, kind: str) -> str:
    x = make_exchange("POST", body=data.encode(), content_type=kind.encode())
    return json.dumps(checked(BUILDER.build(x))["request"]["body"], ensure_ascii=False)


@pytest.mark.parametrize("value", CHOSEN + DATA_ONLY)
def test_data_that_looks_like_a_placeholder_is_masked(value: str) -> None:
    assert value not in body(json.dumps({"password": value}), "application/json").replace("password", "")
    form = body(f"user=mira&password={quote(value)}", "application/x-www-form-urlencoded")
    assert '"password":"[REDACTED]"' in form.replace(" ", "")
    x = make_exchange("GET", path="/a", query=f"a=1&password={quote(value)}".encode())
    assert "REDACTED" in str(checked(BUILDER.build(x))["request"]["query"])


@pytest.mark.parametrize("value", CHOSEN)
def test_chosen_secrets_are_masked_in_text_xml_and_sql(value: str) -> None:
    assert value not in body(f"password: {value}\n", "text/plain")
    assert value not in body(f"user=mira\npassword={value}\n", "text/plain")
    assert value not in body(f"UPDATE users SET password = '{value}' WHERE id = 1", "text/plain")
    assert value not in body(json.dumps({"sql": f"UPDATE users SET password = '{value}'"}), "application/json")
    escaped = value.replace("<", "&lt;").replace(">", "&gt;")
    assert escaped not in body(f"<user><password>{escaped}</password></user>", "application/xml")


@pytest.mark.parametrize("value", HOLDERS)
def test_masks_and_templates_are_kept(value: str) -> None:
    assert value in body(json.dumps({"password": value}), "application/json")


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE users SET password = :password", "UPDATE users SET password = $1", "password = ?",
        "token: ${{ secrets.X }}", "password=<your-password>", "export DB_PASSWORD=$DB_PASSWORD", "password = '%s'",
    ],
)  # fmt: skip
def test_placeholders_of_source_code_and_prose_are_kept(text: str) -> None:
    assert text in body(text, "text/plain")


S = "Zq7Hunter2xK"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password: !%s\nuser: mira\n", "password: [REDACTED]\nuser: mira\n"),
        ("password=&%s\nuser=mira", "password=[REDACTED]\nuser=mira"),
        ("DB_PASSWORD=!%s\nPORT=1\n", "DB_PASSWORD=[REDACTED]\nPORT=1\n"),
        ("DB_PASSWORD=!hunter\nPORT=1\n%.0s", "DB_PASSWORD=[REDACTED]\nPORT=1\n"),
        ("password: !hunter\nport: 1\n%.0s", "password: [REDACTED]\nport: 1\n"),
        ("password: &anchor %s\n", "password: &anchor [REDACTED]\n"),
        ("password: !!str %s\n", "password: !!str [REDACTED]\n"),
        ("token: !Sub %s\n", "token: !Sub [REDACTED]\n"),
        ("password: &pw !!str %s\n", "password: &pw !!str [REDACTED]\n"),
        ('password: &pw "%s"\n', 'password: &pw "[REDACTED]"\n'),
        ("password: ! %s\n", "password: ! [REDACTED]\n"),
        ("password: !vault |\n  %s\nport: 1\n", "password: !vault |\n  [REDACTED]\nport: 1\n"),
        ("password: &pw\n  %s\nport: 1\n", "password: &pw\n  [REDACTED]\nport: 1\n"),
    ],
)
def test_tag_or_anchor_is_no_value_and_hides_none(text: str, shown: str) -> None:
    assert body(text % S, "text/plain") == json.dumps(shown)
