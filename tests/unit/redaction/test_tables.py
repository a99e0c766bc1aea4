"""Every row of the two tables: the engine finds the row's example, and an engine with linear time could run its
expression."""

from __future__ import annotations

import re

import pytest

from asgi_audit.redaction import Redactor
from asgi_audit.redaction.names import MADE, MANY, TEXT, YES, Names
from asgi_audit.redaction.tables import COMMANDS, FORMS, Command, Form, rows, words

REDACTOR = Redactor()
NAMES = Names()


@pytest.mark.parametrize("row", [row for table in ("strong", "keys", "weak", "short") for row in rows(table)], ids=str)
def test_example_of_a_name_is_sensitive(row: dict[str, str]) -> None:
    assert NAMES.kind(row["example"].encode()) == YES
    assert row["source"]
    text = f'{{"{row["example"]}":"Hx7sunflower9Zq"}}'.encode()
    kept = REDACTOR.record().body(text, b"application/json", "b", valid=True)
    assert kept == text.replace(b"Hx7sunflower9Zq", b"[REDACTED]")


@pytest.mark.parametrize("row", rows("made"), ids=str)
def test_example_of_a_name_that_says_little_takes_what_a_machine_made(row: dict[str, str]) -> None:
    assert NAMES.kind(row["example"].encode()) == MADE
    assert row["source"]
    made, kept = f'{{"{row["example"]}":"Hx7sUn9Zq4Tb2Lm8"}}', f'{{"{row["example"]}":"read"}}'
    record = REDACTOR.record()
    assert b"Hx7" not in record.body(made.encode(), b"application/json", "b", valid=True)
    assert record.body(kept.encode(), b"application/json", "b", valid=True) == kept.encode()


@pytest.mark.parametrize("row", rows("ambiguous"), ids=str)
def test_example_of_an_ambiguous_name_takes_texts_only(row: dict[str, str]) -> None:
    assert NAMES.kind(row["example"].encode()) in (TEXT, MANY)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_example_of_a_form_is_masked_under_any_name(form: Form) -> None:
    assert form.source
    for text in (form.example, f"see {form.example} there", f"note={form.example}"):
        kept = REDACTOR.record().text(text.encode())
        secret = re.search(form.expression, form.example.encode())
        assert secret is not None
        hidden = secret["secret"] if "secret" in secret.re.groupindex else secret[0]
        hidden = hidden.partition(form.stop)[0] if form.stop else hidden
        assert b"[REDACTED]" in kept
        assert hidden not in kept


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.example)
def test_example_of_a_command_is_masked(command: Command) -> None:
    assert command.source
    for text in (command.example, f"# notes\n{command.example}\nend", f"$ {command.example}"):
        kept = REDACTOR.record().text(text.encode())
        assert kept == text.replace("Hx7sunflower9Zq", "[REDACTED]").encode()


BESIDE = ("see https://mira:pw1@h.example/x", "a%41b", "x &#65; y", "card 4111111111111111", "?state=1&code=abc123def")
"""Examples that are found by separate searches, whose results are sorted into those of the names and commands."""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.example)
def test_example_of_a_command_is_masked_whatever_else_is_found(command: Command) -> None:
    for beside in BESIDE:
        for text in (f"{command.example}\n{beside}\n", f"{beside}\n{command.example}\n"):
            assert b"Hx7sunflower9Zq" not in REDACTOR.record().text(text.encode()), text


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_expression_needs_no_look_around(form: Form) -> None:
    assert b"(?=" not in form.expression
    assert b"(?!" not in form.expression
    assert b"(?<" not in form.expression.replace(b"(?P<", b"")
    assert not any(form.expression.startswith(mark) for mark in (b".*", b".+"))


@pytest.mark.parametrize(
    "word", ["token_type", "passwordChangedAt", "secretary", "has_password", "season_pass", "api_key_id"]
)
def test_name_that_only_speaks_of_a_secret_is_harmless(word: str) -> None:
    assert NAMES.kind(word.encode()) not in (YES, TEXT, MANY)


def test_lists_hold_no_word_twice() -> None:
    for table in ("strong", "keys", "weak", "short", "tails", "heads", "counters", "neutral", "labels", "valued"):
        assert len(set(words(table))) == len(words(table)), table
