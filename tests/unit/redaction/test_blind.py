"""Secrets in the formats of services, tools and protocols, names in every structure, keys of vendors: see `blind`.

Each run tests a part of the set. `make test-all` tests all of it, and each document cut at many places.
"""

from __future__ import annotations

import pytest
from tests.conftest import is_full
from tests.support.exchanges import make_builder
from tests.support.schema import checked
from tests.unit.redaction import blind
from tests.unit.redaction.cells import leaks
from tests.unit.redaction.test_promise import DOCS

BUILDER = make_builder()
SEEDS = 8 if is_full() else 1


def test_set_is_as_large_as_the_docs_say() -> None:
    assert len(blind.templates()) >= 1_600
    assert len(blind.named()) >= 3_500
    assert len(blind.vendors()) >= 100


def test_planted_secret_is_nowhere_in_the_record() -> None:
    found = []
    for template in blind.templates():
        for seed in range(SEEDS):
            made = blind.planted(template, seed)
            record = BUILDER.build(made.exchange)
            checked(record)
            if leaks(made.secret, record):
                found.append((seed, template))
    assert not found


def test_secret_under_a_name_is_nowhere_in_any_structure() -> None:
    found = []
    for number, template in enumerate(blind.named()):
        if is_full() or number % 5 == 0:
            made = blind.planted(template, number)
            if leaks(made.secret, BUILDER.build(made.exchange)):
                found.append(template)
    assert not found


def test_secret_that_reads_as_a_name_is_nowhere_in_the_record() -> None:
    found = []
    for number, template in enumerate((*blind.templates(), *blind.named())):
        if ("§n" in template.text or "§m" in template.text) or not (is_full() or number % 4 == 0):
            continue
        made = blind.planted(template, number, sounding=True)
        if leaks(made.secret, BUILDER.build(made.exchange)):
            found.append((made.secret, template))
    assert not found


def test_key_of_a_vendor_is_nowhere_under_a_harmless_name() -> None:
    found = []
    for vendor in blind.vendors():
        for seed in range(2 * SEEDS):
            made = blind.known(vendor, seed)
            if leaks(made.secret, BUILDER.build(made.exchange)):
                found.append((seed, vendor))
    assert not found


@pytest.mark.full
def test_beginning_of_a_secret_is_nowhere_wherever_the_document_is_cut() -> None:
    found = []
    for template in blind.cuttable():
        whole = blind.planted(template, 1).exchange
        size = max(len(whole.request_body.data()), len(whole.response_body.data()))
        for end in range(1, size + 1, 3):
            made = blind.planted(template, 1, kept=end / size)
            record = BUILDER.build(made.exchange)
            begun = made.secret[: 14 if made.secret.startswith("Correct-Horse") else 8].lower().encode()
            if leaks(made.secret, record) or begun in record.lower():
                found.append((end, template))
    assert not found


def test_reasons_for_what_is_not_promised_stand_in_the_docs() -> None:
    docs = DOCS.read_text("utf-8").lower()
    reasons = {template.group for template in blind.read("not_promised")}
    assert len(reasons) > 3
    assert [reason for reason in reasons if reason not in docs] == []
