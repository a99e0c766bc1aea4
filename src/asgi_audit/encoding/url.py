"""Path, URL and query of a request as they stand in the record."""

from __future__ import annotations

from urllib.parse import quote

import orjson

from ..exchange.sealed import Exchange
from ..redaction import RecordRedactor
from .bodies import parameters
from .text import TEXT_MAX, json_text

__all__ = ["PATH_BYTES_MAX", "url_of"]

PATH_BYTES_MAX = 16_384


def url_of(x: Exchange, record: RecordRedactor, truncated: list[str]) -> tuple[bytes, bytes, bytes]:
    """(path inside the mount, URL as received, query object), each as JSON; secrets in them are masked. What is longer
    than PATH_BYTES_MAX is cut and named in `truncated`."""
    path = x.path
    root = x.root_path
    given = x.raw_path
    plain = given is not None and not root and not x.query_string and len(path) <= TEXT_MAX and path.isascii()
    if plain and given == path.encode() and "?" not in path and not record.path_may_hide(path):  # by far the most
        encoded = json_text(path)
        return encoded, encoded, b"{}"
    if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        path = path[len(root) :] or "/"
    if x.raw_path is not None:
        original = x.raw_path.partition(b"?")[0].decode("latin-1")
    else:
        original = quote(x.path, safe="/:@!$&'()*+,;=~-._", errors="replace")
    if len(path) > PATH_BYTES_MAX:
        path = path[:PATH_BYTES_MAX]
        truncated.append("request.path")
    if len(original) > PATH_BYTES_MAX:
        original = original[:PATH_BYTES_MAX]
        truncated.append("request.originalUrl")
    if record.path_may_hide(original) or record.path_may_hide(path):
        given_path = path, original
        path = record.path(path.encode("utf-8", "replace")).decode("utf-8", "replace")
        original = record.path(original.encode("latin-1", "replace")).decode("latin-1")
        if (path, original) != given_path:
            record.note("request.path")
    raw = x.query_string
    if not raw or x.detail_request == "none":
        return json_text(path, PATH_BYTES_MAX), json_text(original, PATH_BYTES_MAX), b"{}"
    if len(raw) > PATH_BYTES_MAX:
        raw = raw[:PATH_BYTES_MAX]
        truncated.append("request.query")
    kept = record.query(raw, "request.query")
    query, cut = parameters(kept)
    if cut and "request.query" not in truncated:
        truncated.append("request.query")
    url = original + "?" + kept.decode("latin-1")
    return json_text(path, PATH_BYTES_MAX), json_text(url, 4 * PATH_BYTES_MAX), orjson.dumps(query)
