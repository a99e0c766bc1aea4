"""How the journal looks on disk: names, segment headers, entries, the page of counters.

    root/<process uuid>/lock                   held (`lockf`) for the life of the process
                        counters               one page, mmapped by the process
                        <base, 20 digits>.seg  append-only; base is the offset of its first byte
    root/.new-<uuid>, root/.gone-<uuid>        directories that are being made and removed

An offset counts through all segments of a process: the base of the segment plus the position in its file. A segment
ends at the base of the next one; bytes behind that are what a failed write left. Each segment begins with a header that
describes what the segments before it contain since the last statement, because those may be unlinked when the journal
is adopted.

Entry: mark 0xFF, kind u8, sequence u64, length u32, crc32 u32 over the 14 bytes before it and the payload; then the
payload. Little endian. 0xFF never occurs in UTF-8, so nothing that a client sends can look like the beginning of an
entry when reading continues behind damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ...errors import RecordError
from ...record.merkle import statement_digest
from ...record.statement import decode_statement
from ..base import Entry, Kind, Message, ProcessFacts

__all__ = [
    "COMMITTED",
    "COUNTERS_BYTES",
    "ENTRY_BYTES_MAX",
    "ENTRY_HEAD",
    "CounterPage",
    "SegmentHeader",
    "add_sequence",
    "decode_entries",
    "decode_entry",
    "decode_segment_header",
    "encode_entries",
    "encode_segment_header",
    "new_page",
    "next_entry",
    "note_statement",
    "read_page",
    "segment_name",
]

ENTRY_BYTES_MAX = 1 << 28  # two bodies of the largest size, each byte escaped, fit
MARK = 0xFF
_ENTRY = struct.Struct("<BBQII")
_SIGNED = struct.Struct("<BBQI")
ENTRY_HEAD = _ENTRY.size
_KINDS = {int(k): k for k in Kind}
_MARK = bytes([MARK])


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The entries as one buffer, for one write. Raises ValueError when a payload is larger than readers accept."""
    parts: list[bytes] = []
    sign, pack, crc32 = _SIGNED.pack, struct.Struct("<I").pack, zlib.crc32
    for kind, sequence, payload in entries:
        if len(payload) > ENTRY_BYTES_MAX:
            raise ValueError(f"an entry of {len(payload)} bytes; accepted: at most {ENTRY_BYTES_MAX}")
        head = sign(MARK, kind, sequence, len(payload))
        parts += (head, pack(crc32(payload, crc32(head))), payload)
    return b"".join(parts)


class Decoded(NamedTuple):
    kind: Kind
    sequence: int
    payload: bytes
    end: int  # position in the buffer behind the entry


def decode_entry(data: bytes, at: int) -> Decoded | int:
    """The entry at `at`, or the number of bytes from `at` on that are needed to decode it (0: no entry begins here)."""
    if len(data) - at < ENTRY_HEAD:
        return ENTRY_HEAD if at >= len(data) or data[at] == MARK else 0
    mark, kind, sequence, length, crc = _ENTRY.unpack_from(data, at)
    if mark != MARK or kind not in _KINDS or length > ENTRY_BYTES_MAX:
        return 0
    end = at + ENTRY_HEAD + length
    if end > len(data):
        return ENTRY_HEAD + int(length)
    payload = data[at + ENTRY_HEAD : end]
    if zlib.crc32(payload, zlib.crc32(data[at : at + ENTRY_HEAD - 4])) != crc:
        return 0
    return Decoded(_KINDS[kind], sequence, payload, end)


def decode_entries(data: bytes, base: int, partition: str, count: int) -> tuple[list[Message], int]:
    """(at most `count` valid entries from the beginning of `data`, where they end in it). `base`: the offset of `data`.
    The same as repeated `decode_entry`, inlined: the call and its tuple were half of the cost of an entry."""
    messages: list[Message] = []
    add, unpack, crc32, kinds, new = messages.append, _ENTRY.unpack_from, zlib.crc32, _KINDS, tuple.__new__
    at, size = 0, len(data)
    while count > 0 and at + ENTRY_HEAD <= size:
        mark, number, sequence, length, crc = unpack(data, at)
        begin = at + ENTRY_HEAD
        end = begin + length
        kind = kinds.get(number)
        if mark != MARK or kind is None or end > size or length > ENTRY_BYTES_MAX:
            break
        payload = data[begin:end]
        if crc32(payload, crc32(data[at : begin - 4])) != crc:
            break
        add(new(Message, (partition, base + at, base + end, kind, sequence, payload)))
        at = end
        count -= 1
    return messages, at


def next_entry(data: bytes) -> int:
    """Where the next valid entry begins, after the first byte; -1: there is none. Used to continue after damage."""
    at = data.find(_MARK, 1)
    while at >= 0:
        if isinstance(decode_entry(data, at), Decoded):
            return at
        at = data.find(_MARK, at + 1)
    return -1


# -------------------------------------------------------------------------------------------------------------
# segments

_SEGMENT = struct.Struct("<8sII")
_SEGMENT_MAGIC = b"asgaseg1"
_RANGES_MAX = 2000


class SegmentHeader(msgspec.Struct, kw_only=True):
    """What an adopter must know about the segments before this one, which may be removed.

    `covered`: the last sequence that a statement covers. `present`: ranges of sequences above it that are in earlier
    segments. The other fields repeat the last statement, so that an adopter can continue from it."""

    process: str
    base: int
    covered: int = 0
    present: list[tuple[int, int]] = []
    number: int = 0
    watermark: int = 0
    unwaited: int = 0
    excluded: int = 0
    clock_steps: int = 0
    closed: str = ""
    previous: str | None = None  # digest of the last statement's bytes
    policy: str | None = None


_headers = msgspec.json.Decoder(SegmentHeader)


def segment_name(base: int) -> str:
    return f"{base:020d}.seg"


def segment_base(name: str) -> int | None:
    return int(name[:20]) if len(name) == 24 and name.endswith(".seg") and name[:20].isdigit() else None


def encode_segment_header(header: SegmentHeader) -> bytes:
    body = msgspec.json.encode(header)
    return _SEGMENT.pack(_SEGMENT_MAGIC, len(body), zlib.crc32(body)) + body


def decode_segment_header(data: bytes) -> tuple[SegmentHeader, int] | None:
    """(header, its size), or None when it is torn or damaged."""
    if len(data) < _SEGMENT.size:
        return None
    magic, length, crc = _SEGMENT.unpack_from(data)
    body = data[_SEGMENT.size : _SEGMENT.size + length]
    if magic != _SEGMENT_MAGIC or len(body) != length or zlib.crc32(body) != crc:
        return None
    try:
        return _headers.decode(body), _SEGMENT.size + length
    except msgspec.DecodeError:
        return None


def note_statement(header: SegmentHeader, payload: bytes) -> bool:
    """Copy the fields of this statement that the next segment's header must repeat; False when the statement cannot be
    decoded."""
    try:
        statement = decode_statement(payload)
    except RecordError:
        return False
    header.covered = max(header.covered, statement.last)
    header.present = [(max(a, header.covered + 1), b) for a, b in header.present if b > header.covered]
    header.number = max(header.number, statement.number)
    header.watermark = max(header.watermark, statement.watermark)
    header.unwaited, header.excluded = statement.unwaited, statement.excluded
    header.clock_steps, header.closed = statement.clock_steps, statement.closed
    header.previous, header.policy = statement_digest(payload), statement.policy
    return True


def add_sequence(ranges: list[tuple[int, int]], sequence: int) -> None:
    """Add one sequence to sorted, disjoint ranges (both ends inclusive). Above the bound, the smallest gap is closed:
    its sequences then count as present. As their records do not exist, the index will find them missing; no loss is
    stated that did not happen."""
    if ranges and ranges[-1][0] <= sequence <= ranges[-1][1] + 1:
        ranges[-1] = (ranges[-1][0], max(ranges[-1][1], sequence))
        return
    if not ranges or sequence > ranges[-1][1]:
        ranges.append((sequence, sequence))
    else:  # out of order, or repeated: rare, so merge everything again
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*ranges, (sequence, sequence)]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        ranges[:] = merged
    if len(ranges) > _RANGES_MAX:
        i = min(range(1, len(ranges)), key=lambda n: ranges[n][0] - ranges[n - 1][1])
        ranges[i - 1 : i + 1] = [(ranges[i - 1][0], ranges[i][1])]


# -------------------------------------------------------------------------------------------------------------
# counters

COUNTERS_BYTES = 4096
COUNTERS = slice(16, 40)  # begun, last, excluded
COMMITTED = slice(40, 48)  # the published end: readers of a running process stop here
OPEN_BASE = slice(48, 56)  # base of the segment that is appended to
_BOOT = slice(64, 100)
_FACTS_AT = 128
_PAGE = struct.Struct("<8sII")
_PAGE_MAGIC = b"asgacnt1"
_COUNTS = struct.Struct("<QQQQQ")


class CounterPage(NamedTuple):
    begun: int
    last: int
    excluded: int
    committed: int
    open_base: int
    boot: str
    facts: ProcessFacts | None


class _Facts(msgspec.Struct):
    host: str
    service: str
    started: int


def new_page(facts: ProcessFacts, boot: str) -> bytes:
    body = msgspec.json.encode(_Facts(facts.host[:255], facts.service[:255], facts.started))
    page = bytearray(COUNTERS_BYTES)
    _PAGE.pack_into(page, 0, _PAGE_MAGIC, 1, len(body))
    name = boot.encode()[:36]
    page[_BOOT.start : _BOOT.start + len(name)] = name
    page[_FACTS_AT : _FACTS_AT + len(body)] = body
    return bytes(page)


def read_page(data: bytes, facts_of: ProcessFacts) -> CounterPage | None:
    """None when the page is damaged. `facts_of`: its process is used; the other facts are read from the page."""
    if len(data) < COUNTERS_BYTES or data[:8] != _PAGE_MAGIC:
        return None
    _, version, length = _PAGE.unpack_from(data)
    if version != 1 or length > COUNTERS_BYTES - _FACTS_AT:
        return None
    try:
        facts = msgspec.json.decode(data[_FACTS_AT : _FACTS_AT + length], type=_Facts)
    except msgspec.DecodeError:
        facts = None
    begun, last, excluded, committed, open_base = _COUNTS.unpack_from(data, COUNTERS.start)
    return CounterPage(
        begun,
        last,
        excluded,
        committed,
        open_base,
        data[_BOOT].rstrip(b"\0").decode("ascii", "replace"),
        facts_of._replace(host=facts.host, service=facts.service, started=facts.started) if facts else None,
    )
