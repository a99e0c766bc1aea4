"""The manifest: describes the content of an object and its completeness."""

from __future__ import annotations

from typing import Any

import msgspec

from ..control.exports import Export, Progress
from ..store.base import Query, Reader
from .base import object_name
from .waiting import shown_time

__all__ = ["claims_of", "manifest_of"]

_NAMED_MAX = 100


def claims_of(reader: Reader, query: Query, until: int | None) -> dict[str, Any]:
    """The completeness of the index for the query's window. Read it before the snapshot, so that it claims nothing that
    the snapshot lacks. `until`: T in ms."""
    found = reader.completeness(query.start, query.end, query.accounts)
    opened = [i for i in reader.incidents(query.start, query.end, limit=_NAMED_MAX) if i.resolved_at is None]
    lost = [(w.process, w.lost) for w in reader.window(query.start, query.end) if w.lost]
    return {
        "complete_from_ms": found.begins,
        "complete_until_ms": until,
        "incidents": found.incidents,
        "open": found.open,
        "incident_list": [
            {
                "kind": i.kind,
                "process": i.process,
                "from": shown_time(i.start),
                "until": None if i.end is None else shown_time(i.end),
                "count": i.count,
            }
            for i in opened
        ],
        "lost": sum(count for _, count in lost),
        "lost_list": [{"process": process, "lost": count} for process, count in lost[:_NAMED_MAX]],
    }


def manifest_of(export: Export, progress: Progress, sha256: str, begins: int | None) -> bytes:
    """The manifest as JSON. `begins`: `complete_from` (ms) when the last record was read; a purge during the export may
    have removed days before they were read."""
    claims = dict(export.claims)
    first, until = claims.pop("complete_from_ms", None), claims.pop("complete_until_ms", None)
    if begins is not None and begins > max(export.query.start, first or 0):
        first = begins
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "request_id": export.id,
                "object": object_name(export.id),
                "records": progress.records,
                "sha256": sha256,
                "bytes": progress.plain_bytes,
                "bytes_compressed": progress.bytes,
                "time_start": shown_time(export.query.start),
                "time_end": shown_time(export.query.end),
                "filters": _filters(export.query),
                "index": progress.index,
                "complete_from": None if first is None else shown_time(first),
                "complete_until": None if until is None else shown_time(until),
                **claims,
            }
        ),
        indent=2,
    )


def _filters(query: Query) -> dict[str, Any]:
    accounts = None if query.accounts is None else sorted(query.accounts)
    chosen = {"service": query.service, "instance": query.instance, "region": query.region}
    return {"accounts": accounts or "*", **{name: value for name, value in chosen.items() if value is not None}}
