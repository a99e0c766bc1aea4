"""From the raw bytes of a body to its place in the record: a JSON fragment, and the word for `captured`.

| body | in the record | captured |
|---|---|---|
| JSON: objects and arrays by their content, other values by their label | its own bytes, CR and LF as spaces | full |
| form (`application/x-www-form-urlencoded`) | object of strings, arrays when repeated | full |
| text: labelled as text, or not labelled and printable UTF-8 | string | full |
| any of them, longer than the limit | the kept bytes as a string, cut at a whole character | truncated |
| the application answered before it had read the body | the same | unread |
| compressed, multipart, binary; detail without bodies; too costly to search for secrets | null | omitted |
| UTF-16; labelled as text and invalid UTF-8 | null | undecodable |
| bytes were dropped because memory was short | null | pressure |
| no bytes | null | empty, or unread |

JSON that orjson refuses (deeper than 1024, `1e999`, lone surrogates) counts as text. Nothing here raises, whatever the
bytes.
"""

from __future__ import annotations

import codecs
import re

import msgspec
import orjson

from ..exchange.draft import Body
from ..redaction import RecordRedactor
from ..redaction.pairs import PAIRS_MAX, decoded
from ..redaction.scan import is_text

__all__ = ["fragment", "is_opaque", "parameters"]

NULL = b"null"
_TEXT_TYPES = re.compile(
    rb"text/|application/(?:[a-z0-9.+-]*\+)?(?:json|xml|x?html|javascript|ecmascript|graphql|yaml|toml|x-ndjson|ndjson|jsonl|x-yaml"
    rb"|json-seq|jsonlines|x-javascript|sql|x-www-form-urlencoded)|image/svg"
)
_JSON_TYPE = re.compile(rb"[a-z0-9.*-]+/(?:[a-z0-9.-]+\+)?json(?:[; ]|\Z)")
_CHARSET = re.compile(rb"charset=[\"']?([a-z0-9_.:-]{1,40})")
_LATIN = frozenset((b"latin-1", b"latin1", b"iso-8859-1", b"iso8859-1", b"windows-1252", b"cp1252"))
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
_BRACKETS_FLAT = 900
_pass_over = msgspec.json.Decoder(msgspec.Raw).decode
# The largest float has the exponent e308: larger numbers have three digits of exponent, or two and many digits before.
_MARKS = bytes.maketrans(b"123456789+E{", b"0000000000e[")
_HUGE = b"0" * 200
_BOM = b"\xef\xbb\xbf"


def is_opaque(content_type: bytes, content_encoding: bytes) -> bool:
    """Whether a body with these headers is not parsed: compressed or multipart. content_type: in lower case."""
    return content_type.startswith(b"multipart/") or content_encoding.strip().lower() not in (b"", b"identity")


def fragment(
    body: Body, content_type: bytes, opaque: bool, record: RecordRedactor, *, request: bool
) -> tuple[bytes, str]:
    """(JSON fragment on one line, captured) of a body that has at least one byte.

    content_type: in lower case. opaque: see `is_opaque`."""
    kept = body.kept
    captured = "full"
    if kept < body.total:
        if body.pressure:
            return NULL, "pressure"
        captured = "truncated"
    elif not body.complete:
        captured = "unread" if request else "truncated"
    if not kept:
        return NULL, "omitted"
    base = "request.body" if request else "response.body"
    data = body.data()
    if opaque:
        if content_type.startswith(b"multipart/"):
            record.leave_out(data, content_type)
        return NULL, "omitted"
    if captured == "full":
        made = _json(data, content_type, base, record)
        if made is not None:
            return made
    return _text(data, content_type, captured, base, record)


def _json(data: bytes, content_type: bytes, base: str, record: RecordRedactor) -> tuple[bytes, str] | None:
    """As `fragment`; None when the body is not JSON."""
    first = data[:1]
    if first != b"{" and first != b"[":
        if data.startswith(_BOM):
            data = data[3:]
        first = data.lstrip(b" \t\r\n")[:1]
        if first != b"{" and first != b"[" and not _JSON_TYPE.match(content_type):
            return None
    if not _is_json(data):
        return None
    if 10 in data or 13 in data:
        data = data.translate(_LINE_ENDS)
    kept = record.body(data, content_type, base, valid=True)
    return (NULL, "omitted") if kept is None else (kept, "full")


def _is_json(data: bytes) -> bool:
    """Whether orjson accepts it inside a record.

    msgspec can check JSON without making objects, six times as fast, but it accepts more: invalid UTF-8, numbers beyond
    a float, escapes of lone surrogates, any depth. When one of these may be in the data, orjson decides."""
    if 92 not in data:
        try:
            _pass_over(data)
            if not data.isascii():
                data.decode()
            marks = data.translate(_MARKS)
            if marks.find(b"0e000") < 0 and marks.find(_HUGE) < 0 and marks.count(b"[") <= _BRACKETS_FLAT:
                return True
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        if data.count(b"[") + data.count(b"{") > _BRACKETS_FLAT:
            # The record around the body adds to the depth: a body just within the limit would make it unreadable.
            data = b"[" * 24 + data + b"]" * 24
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _text(data: bytes, content_type: bytes, captured: str, base: str, record: RecordRedactor) -> tuple[bytes, str]:
    labelled = _TEXT_TYPES.match(content_type) is not None
    if content_type and not labelled:
        return NULL, "omitted"
    cut = captured != "full"
    text = _decoded(data, content_type, cut=cut)
    kept = None if text is None else record.body(text, content_type, base, cut=cut)
    if kept is None:
        if text is not None and is_text(text):
            return NULL, "omitted"
        if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"utf-16" in content_type:
            record.leave_out(data.decode("utf-16", "replace").encode("utf-8", "replace"), content_type)
        return NULL, "undecodable" if labelled else "omitted"
    if content_type.startswith(b"application/x-www-form-urlencoded") and not cut:
        found, too_many = parameters(kept)
        if not too_many:
            return orjson.dumps(found), captured
    return orjson.dumps(kept.decode("utf-8", "replace")), captured


def parameters(raw: bytes) -> tuple[dict[str, str | list[str]], bool]:
    """(the parameters of a query or form, repeated ones as arrays; whether they were cut after PAIRS_MAX). Invalid
    UTF-8 in names and values becomes U+FFFD."""
    found: dict[str, str | list[str]] = {}
    parts = raw.split(b"&", PAIRS_MAX)
    for part in parts[:PAIRS_MAX]:
        if not part:
            continue
        name, _, value = part.partition(b"=")
        if 37 in part or 43 in part:  # % +
            name, value = decoded(name), decoded(value)
        key, text = name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        before = found.get(key)
        if before is None:
            found[key] = text
        elif isinstance(before, list):
            before.append(text)
        else:
            found[key] = [before, text]
    return found, len(parts) > PAIRS_MAX


def _decoded(data: bytes, content_type: bytes, *, cut: bool) -> bytes | None:
    """The text as UTF-8; None when the bytes are no text. A half character at the end of cut bytes is dropped."""
    if data.startswith(_BOM):
        data = data[3:]
    if data.isascii():
        return data
    try:
        if cut:
            return codecs.getincrementaldecoder("utf-8")().decode(data).encode()
        data.decode()
        return data
    except UnicodeDecodeError:
        pass
    charset = _CHARSET.search(content_type)
    return data.decode("cp1252", "replace").encode() if charset and charset[1] in _LATIN else None
