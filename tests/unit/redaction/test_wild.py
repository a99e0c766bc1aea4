"""Secrets in the places where services, tools and people put them, and documents that only mention secrets: see `wild`
and `tame`.

More of it: ASGI_AUDIT_TEST_SEEDS=5000.
"""

from __future__ import annotations

import os

from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked
from tests.unit.redaction.cells import leaks
from tests.unit.redaction.tame import documents
from tests.unit.redaction.wild import NAME_LAST, TEMPLATES, planted

BUILDER = make_builder()
SEEDS = int(os.environ.get("ASGI_AUDIT_TEST_SEEDS", "700"))


def test_planted_secret_is_nowhere_in_the_record() -> None:
    found = []
    for seed in range(SEEDS):
        made = planted(seed, wrap=False)
        record = BUILDER.build(made.exchange)
        checked(record)
        if leaks(made.secret, record):
            found.append((seed, made.template))
    assert not found


def test_planted_secret_is_nowhere_when_its_document_stands_in_another_one() -> None:
    found = []
    for seed in range(SEEDS):
        made = planted(seed)
        if leaks(made.secret, BUILDER.build(made.exchange)):
            found.append((seed, made.template))
    assert not found


def test_beginning_of_a_secret_is_nowhere_when_the_document_is_cut() -> None:
    """In text and pages, a secret whose identifying name comes after it and was cut off is not promised."""
    found = []
    for seed in range(SEEDS):
        made = planted(seed, cut=True, wrap=False)
        if made.template in NAME_LAST:
            continue
        record = BUILDER.build(made.exchange)
        begun = made.secret[: 14 if made.secret.startswith("Correct-Horse") else 8].lower().encode()
        if leaks(made.secret, record) or begun in record.lower():
            found.append((seed, made.template))
    assert not found


def test_name_that_is_last_is_known_by_its_template() -> None:
    every = {template for _, templates in TEMPLATES.values() for template in templates}
    assert every >= NAME_LAST


def test_documents_that_only_speak_of_secrets_stay_as_they_are() -> None:
    damaged = []
    for kind, text in documents():
        value = checked(BUILDER.build(make_exchange("GET", answer=text.encode(), answer_type=kind.encode())))
        if value["context"]["responseBody"]["captured"] != "full" or "redacted" in value["context"]:
            damaged.append(text[:60])
    assert not damaged
