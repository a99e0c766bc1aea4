"""The output formats of records (JSON, NDJSON, CSV), and links to the next page."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request

from .accept import CSV, JSON, NDJSON, accepted_format
from .columns import Columns, all_columns

__all__ = ["Shape", "next_link", "shape_of"]


class Shape(NamedTuple):
    """An output format. `show`: converts a record; called in another thread."""

    content_type: str
    start: bytes
    between: bytes
    show: Callable[[bytes], bytes]

    @property
    def is_json(self) -> bool:
        return self.content_type == JSON


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


def _whole(record: bytes) -> bytes:
    return record
