"""Frozen records of schema 1.0 can be read for ever: decoded, derived and returned as when they were written."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.support.schema import checked

from asgi_audit.record.codec import decode
from asgi_audit.record.slices import pack_cuts, trail_slice, unpack_cuts, usage_slice

CORPUS = Path(__file__).parent.parent / "corpus"
RECORDS = (CORPUS / "records-1.0.ndjson").read_bytes().splitlines()
EXPECTED = (CORPUS / "expected-1.0.ndjson").read_bytes().splitlines()
# A digest of the records and the expected results when they were frozen; records may be added after these.
FROZEN = 27
FROZEN_DIGEST = "59019f73a3b594707a330b20f0244b86043affd068307b77fa738a71f31d9bc6"


def derived(record: bytes) -> dict[str, Any]:
    """Everything derived from a record, and both responses, in JSON."""
    d = decode(record)
    return {
        "account": d.account,
        "service": d.service,
        "instance": d.instance,
        "id": d.id,
        "request_id": d.request_id,
        "region": d.region,
        "scope": d.scope,
        "method": d.method,
        "path": d.path,
        "status": d.status,
        "timestamp": d.timestamp,
        "process": d.process.hex() if d.process is not None else None,
        "sequence": d.sequence,
        "principal": d.principal,
        "operation": d.operation,
        "outcome": d.outcome,
        "level": d.level,
        "failure": d.failure,
        "message": d.message,
        "host": d.host,
        "duration_ns": d.duration_ns,
        "cuts": base64.b64encode(pack_cuts(d.cuts)).decode(),
        "usage": usage_slice(d.data, d.cuts).decode(),
        "trail": trail_slice(d.data, d.cuts).decode(),
    }


def test_corpus_is_as_it_was_frozen() -> None:
    digest = hashlib.sha256()
    for line in RECORDS[:FROZEN] + EXPECTED[:FROZEN]:
        digest.update(line + b"\n")
    assert digest.hexdigest() == FROZEN_DIGEST
    assert len(RECORDS) == len(EXPECTED)


@pytest.mark.parametrize("at", range(len(RECORDS)))
def test_record_is_read_as_on_the_first_day(at: int) -> None:
    assert derived(RECORDS[at]) == orjson.loads(EXPECTED[at])


@pytest.mark.parametrize("at", range(len(RECORDS)))
def test_record_stays_the_same_when_it_is_read_again(at: int) -> None:
    """The index stores `data`: decoding it again gives the same bytes."""
    once = decode(RECORDS[at])
    again = decode(once.data)
    assert again.data is once.data
    assert again == once
    assert unpack_cuts(pack_cuts(once.cuts)) == once.cuts


@pytest.mark.parametrize("at", range(len(RECORDS)))
def test_answers_have_exactly_the_documented_fields(at: int) -> None:
    """The oracle is a dict: parse the record, remove and add fields."""
    d = decode(RECORDS[at])
    whole = orjson.loads(d.data)
    usage = orjson.loads(usage_slice(d.data, d.cuts))
    trail = orjson.loads(trail_slice(d.data, d.cuts))
    assert list(usage) == ["account_id", "service", "instance_id", "metadata", "request", "response", "timestamp"]
    assert usage == {k: whole[k] for k in usage}
    assert list(trail) == ["account_id", "metadata", "request", "response", "timestamp"]
    assert trail == {
        **{k: whole[k] for k in trail},
        "metadata": {**whole["metadata"], "service": whole["service"]},
    }


@pytest.mark.parametrize("at", [n for n in range(len(RECORDS)) if b'"level": "LOUD"' not in RECORDS[n]])
def test_record_is_of_the_schema(at: int) -> None:
    checked(decode(RECORDS[at]).data)
