"""The JSON Schema (draft 2020-12) of a statement of version 1.0. Types and bounds come from `Statement`, descriptions
from here.

Statements are open: a later 1.x may add keys, and a reader ignores those that it does not know.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .statement import STATEMENT_BYTES_MAX, Statement

__all__ = ["STATEMENT_SCHEMA_ID", "statement_schema"]

STATEMENT_SCHEMA_ID = "urn:asgi-audit:statement:1.0"
_DIGEST = "^[0-9a-f]{64}$"
_DESCRIPTIONS = {
    "statement": 'Version. This key comes first, so a statement begins with the bytes `{"statement":`.',
    "process": "UUID of the process that the statement is about: `context.capture.process` of its records.",
    "number": "Number of the statement in the process, from 1.",
    "at": "When the statement was made, by the clock of the process: ms since 1970-01-01T00:00:00Z.",
    "first": "First sequence of the range, inclusive: `last` of the previous statement + 1.",
    "last": "Last sequence of the range, inclusive. The range is empty when `first` = `last` + 1.",
    "count": "Number of records of the range that were written. Negative when `lost_more` counts sequences before the "
    "range.",
    "lost": "Sequences without a record: [first, last, reason], both inclusive. They may lie below `first`.",
    "lost_more": "Number of lost sequences that did not fit into `lost`.",
    "excluded": "Number of exchanges since the start of the process that the policy excluded. They have no sequence.",
    "unwaited": "Number of `durable` exchanges since the start that were served before their record was on disk.",
    "open_count": "Number of exchanges that had begun and not ended.",
    "open_oldest": "When the oldest of the open exchanges began, ms; null when none is open.",
    "open_long": "Number of exchanges that had been open for 60 s or more.",
    "open_long_newest": "When the newest of these began, ms.",
    "open_accounts": "[account, number] for the open exchanges whose account is known: among those counted in "
    "`open_long`, or in `open_count` when `closed` is not empty.",
    "watermark": "W, ms: each exchange that began before W has a sequence up to `last`, or is counted as open.",
    "closed": "Empty while the process runs; `provisional` or `final` at its end; `adopted` when another process made "
    "the statement for a dead one.",
    "proven": "False when an adopted statement cannot prove the last sequence of the process.",
    "clock_steps": "Number of jumps of the wall clock by more than a second.",
    "host": "Host name of the machine.",
    "service": "Service of the process.",
    "started": "When the process started, ms.",
    "root": "Merkle tree hash (RFC 6962) of the records of the range, 64 hex digits; null when it is not known.",
    "policy": "Digest of the settings that decide what is recorded; null when it is not known.",
    "previous": "SHA-256 of the bytes of the previous statement, 64 hex digits; null when there is none.",
}


def statement_schema() -> dict[str, Any]:
    """A new dict each time."""
    generated = msgspec.json.schema(Statement)
    found: dict[str, Any] = generated["$defs"].pop("Statement")
    for name, described in _DESCRIPTIONS.items():
        found["properties"][name]["description"] = described
    found["properties"]["statement"]["pattern"] = "^1\\."
    for name in ("root", "previous"):
        found["properties"][name]["pattern"] = _DIGEST  # applies to the string, not to null
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": STATEMENT_SCHEMA_ID,
        **found,
        "title": "Statement of a process",
        "description": "A process's report about its own records: their range, number, hash and losses. One line of "
        f"UTF-8 JSON, at most {STATEMENT_BYTES_MAX:,} bytes.",
        "$defs": generated["$defs"],
    }
