"""A statement: a process's report about its own records, in the same journal and partition, after the records that it
covers.

`recording.ledger` explains statements by an example. Wire form: one line of JSON that begins `{"statement":"1.0"`, at
most 65,535 bytes (so that it can be an entry of a C2SP tile log). `root` is null when it is not known which records are
in the range exactly.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ..errors import RecordError
from .line import COUNT_END, Count, Ordinal, Time, decode_line

__all__ = ["STATEMENT_BYTES_MAX", "Lost", "OpenOf", "Statement", "decode_statement", "encode_statement"]

STATEMENT_BYTES_MAX = 65_535


class Lost(msgspec.Struct, array_like=True, frozen=True):
    """Sequences first..last, both inclusive, without a record, and the reason.

    Reasons: `queue` (more exchanges than the bound), `journal` (could not be written), `journal_full` (over the byte
    bound), `build` (a record could not be built), `exit` (the program ended before it was written), `killed` (adopted:
    the process died before they were written)."""

    first: Ordinal
    last: Ordinal
    reason: str


class OpenOf(msgspec.Struct, array_like=True, frozen=True):
    """How many of the open exchanges are known to belong to this account."""

    account: str
    count: Ordinal


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename={"version": "statement"}):
    """The range first..last of sequences since the previous statement, both inclusive; empty when first = last + 1."""

    version: str = "1.0"
    process: str
    number: Ordinal  # 1, 2, 3 … of this process
    at: Time  # ms since the epoch, when it was made
    first: Ordinal
    last: Count
    # Records of the range in the journal; below zero when `lost_more` counts sequences before the range.
    count: Annotated[int, msgspec.Meta(gt=-COUNT_END, lt=COUNT_END)]
    lost: list[Lost] = []  # sequences without a record; they may lie below `first` when they are stated late
    lost_more: Count = 0  # number of further losses that are not in `lost`, whose size is bounded
    excluded: Count = 0  # in total since the start of the process
    unwaited: Count = 0  # in total: `durable` exchanges that were served before their record was durable
    open_count: Count = 0
    open_oldest: Time | None = None  # ms since the epoch
    open_long: Count = 0  # those open for 60 s and more: they no longer hold W back
    open_long_newest: Time | None = None  # ms since the epoch: when the last of these began
    # Of those counted in `open_long` (in a `closed` statement: in `open_count`), the ones whose account is known; the
    # others may belong to any account. Absent in statements of version 0.1.0.
    open_accounts: list[OpenOf] = []
    watermark: Time  # W, ms: each exchange that began before it has a sequence of at most `last`, or is counted as open
    closed: Literal["", "provisional", "final", "adopted"] = ""
    proven: bool = True  # False: adopted under another boot id, or without counters: the true tail is not known
    clock_steps: Count = 0  # how often the wall clock was seen to jump by more than a second, in total
    host: str = ""
    service: str = ""
    started: Time = 0  # ms since the epoch
    root: str | None = None
    policy: str | None = None
    previous: str | None = None


_decoder = msgspec.json.Decoder(Statement)
_encoder = msgspec.json.Encoder()


def encode_statement(statement: Statement) -> bytes:
    """At most STATEMENT_BYTES_MAX, unless host and service are too long. What does not fit is left out: first the
    accounts of open exchanges, which then count for every reader; then ranges of losses, which are counted in
    `lost_more`."""
    data = _encoder.encode(statement)
    while len(data) > STATEMENT_BYTES_MAX and statement.open_accounts:
        named = statement.open_accounts
        statement = msgspec.structs.replace(statement, open_accounts=named[: len(named) // 2])
        data = _encoder.encode(statement)
    while len(data) > STATEMENT_BYTES_MAX and statement.lost:
        keep = max(0, len(statement.lost) * (STATEMENT_BYTES_MAX - 1024) // (len(data) + 1))
        dropped = statement.lost[keep:]
        more = statement.lost_more + sum(r.last - r.first + 1 for r in dropped)
        statement = msgspec.structs.replace(statement, lost=statement.lost[:keep], lost_more=more)
        data = _encoder.encode(statement)
    return data


def decode_statement(data: bytes) -> Statement:
    """Raises RecordError."""
    if len(data) > STATEMENT_BYTES_MAX:
        raise RecordError(f"not a statement: {len(data)} bytes are more than the limit of {STATEMENT_BYTES_MAX}")
    found = decode_line(_decoder.decode, data, "statement")
    if found.lost:
        sizes = [r.last - r.first + 1 for r in found.lost]
        if min(sizes) < 1 or sum(sizes) + found.lost_more >= COUNT_END:
            raise RecordError("not a statement: a range in `lost` ends before it begins, or they name too many")
    if sum(o.count for o in found.open_accounts) > (found.open_count if found.closed else found.open_long):
        raise RecordError("not a statement: `open_accounts` counts more exchanges than are open")
    return found
