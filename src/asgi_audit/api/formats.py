"""The output formats of records (JSON, NDJSON, CSV), and links to the next page."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request

from ..query.admission import Lease
from ..record.slices import Cuts
from ..store.base import Row
from .accept import CSV, JSON, NDJSON, accepted_format
from .columns import Columns, all_columns
from .models import Model, answer_bytes
from .page import PageResponse

__all__ = ["Shape", "next_link", "shape_of"]


class Shape(NamedTuple):
    """An output format. `show`: converts a record; called in another thread."""

    content_type: str
    start: bytes
    between: bytes
    show: Callable[[bytes], bytes]

    def page(self, rows: list[Row], envelope: Model, headers: dict[str, str], lease: Lease) -> PageResponse:
        """`rows` as `show` converted them; in JSON they are `records` of an object with the fields of `beside`, which
        other formats have in headers only."""
        start, end = self.start, b""
        if self.content_type == JSON:
            start, end = b'{"records":[', b"]," + answer_bytes(envelope)[1:]
        return self.response(rows, start, end, headers, lease)

    def response(
        self, rows: list[Row], start: bytes, end: bytes, headers: dict[str, str], lease: Lease
    ) -> PageResponse:
        """`start`, the converted rows, `end`."""
        headers = {**headers, "vary": "accept"}
        return PageResponse(
            rows, _converted, start, end, headers, lease, between=self.between, content_type=self.content_type
        )


def shape_of(request: Request, columns: Columns | None = None, formats: tuple[str, ...] = (JSON, NDJSON, CSV)) -> Shape:
    """The format that the client accepts. Raises QueryError 'unacceptable'."""
    found = accepted_format(request, formats)
    if found == CSV:
        columns = columns or all_columns()
        return Shape(f"{CSV}; charset=utf-8; header=present", columns.header, b"", columns.as_csv)
    show = columns.as_json if columns else _whole
    if found == NDJSON:
        return Shape(NDJSON, b"", b"", lambda record: show(record) + b"\n")
    return Shape(JSON, b"", b",", show)


def next_link(name: str, cursor: str, limit: int, columns: Columns | None = None) -> dict[str, str]:
    """The page after this one, relative to the URL of this one (RFC 8288), and its cursor alone."""
    parameters = {name: cursor, "limit": str(limit), **({"fields": ",".join(columns.names)} if columns else {})}
    return {"link": f'<?{urlencode(parameters)}>; rel="next"', "audit-cursor": cursor}


def _converted(shown: bytes, _: Cuts) -> bytes:
    return shown


def _whole(record: bytes) -> bytes:
    return record
