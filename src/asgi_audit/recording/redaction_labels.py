"""What JSON says about fields instead of in them: a string that names a field, an object that describes one, and rows
of a table whose header names one.

A record is evidence, so that what merely speaks of secrets stays: `"title": "Invalid token"`, `{"type": "token",
"data": …}`, and the schema or label of a field (`"password": {"type": "string", "minLength": 8}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

from .names import LOOSE, SENSITIVE

__all__ = [
    "COLUMNS",
    "ROW",
    "VALUE_KEYS",
    "WEAK_LABELS",
    "describes",
    "is_empty",
    "kept_beside",
    "names_field",
    "row_spans",
]

# Labels that often say something else: the values beside them are masked only where they are meant as such.
WEAK_LABELS = frozenset((b"type", b"kind", b"id", b"block_id", b"blockId", b"title", b"question"))
_KEPT_BESIDE_WEAK = frozenset((b"instance", b"context", b"ctx", b"from", b"to", b"current", b"previous", b"received"))
_AMBIGUOUS = frozenset(
    (b"token", b"tokens", b"session", b"auth", b"cookie", b"signature", b"credential", b"credentials")
)
_MEANT_BESIDE = frozenset((b"value", b"values", b"val", b"answer", b"input", b"default", b"inputValue"))
# Words that make a phrase of two speak of a secret: no field is called so.
_ABOUT = frozenset((
    b"invalid", b"missing", b"expired", b"bad", b"wrong", b"unknown", b"incorrect", b"malformed", b"unexpected", b"no",
    b"revoked", b"reset", b"forgot", b"forgotten", b"lost", b"change", b"changed", b"update", b"updated", b"rotate",
    b"rotated", b"rotation", b"usage", b"policy", b"required", b"strength", b"settings", b"management", b"manager",
    b"limit", b"limits", b"error", b"mismatch", b"refreshed", b"created", b"deleted", b"issued", b"count", b"expiry",
    b"generate", b"generated", b"create", b"delete", b"revoke", b"enter", b"choose", b"show", b"hide",
))  # fmt: skip

# Keys of a JSON schema, of a security scheme, and of what a form shows; and those under which a value may stand.
_DESCRIBING = frozenset((
    "type", "format", "title", "description", "minLength", "maxLength", "min_length", "max_length", "pattern",
    "properties", "required", "items", "allOf", "anyOf", "oneOf", "not", "$ref", "nullable", "readOnly", "writeOnly",
    "deprecated", "additionalProperties", "minItems", "maxItems", "uniqueItems", "minimum", "maximum", "xml",
    "discriminator", "externalDocs", "definitions", "$defs", "$id", "$schema", "in", "scheme", "bearerFormat", "flows",
    "openIdConnectUrl", "label", "placeholder", "hint", "help", "helpText", "help_text", "error", "errors", "tooltip",
    "tooShort", "tooLong", "too_short", "too_long", "mismatch", "invalid", "weak", "strong", "forgot", "visible",
    "disabled", "hidden", "autocomplete", "widget", "touched", "dirty", "valid", "multiple", "optional", "min", "max",
    "secretName", "defaultMode", "tokenUrl", "authorizationUrl", "refreshUrl", "scopes",
))  # fmt: skip
VALUE_KEYS = frozenset((
    b"default", b"example", b"examples", b"const", b"enum", b"value", b"values", b"initial", b"initialValue", b"input",
    b"name",
))  # fmt: skip
_KNOWN = _DESCRIBING | {key.decode() for key in VALUE_KEYS}
_DESCRIPTION_MAX = 32_768

COLUMNS = frozenset((
    b"columns", b"fields", b"head", b"header", b"headers", b"cols", b"keys", b"names", b"columnNames", b"column_names",
    b"fieldNames", b"field_names", b"labels", b"headings", b"schema",
))  # fmt: skip
ROW = frozenset((b"values", b"row", b"data", b"cells", b"record", b"body"))
# A string that nothing closes goes on to the end: tried at each quote in it, it would be quadratic.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\[\x00-\xff][^"\\]*+)*(?:"|\\?\Z)|[\[\]{},]')


def names_field(raw: bytes, kind: int) -> bool:
    """Whether a string of this kind is the name of a sensitive field, and no sentence or title that mentions one."""
    if kind not in (SENSITIVE, LOOSE) or len(raw) > 100 or raw.find(b"://") >= 0:
        return False
    spaces = raw.count(b" ")
    return spaces == 0 or (spaces == 1 and not any(word in _ABOUT for word in raw.lower().split(b" ")))


def kept_beside(label: bytes, key: bytes) -> bool:
    """Whether the value of `key` stays beside a weak label with this value."""
    if label.lower() in _AMBIGUOUS:
        return key not in _MEANT_BESIDE
    return key in _KEPT_BESIDE_WEAK


def describes(text: bytes) -> bool:
    """Whether this object under a sensitive name describes the field: a schema of it, its label and errors."""
    if len(text) > _DESCRIPTION_MAX:
        return False
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return (
        isinstance(value, dict)
        and not value.keys().isdisjoint(_DESCRIBING)
        and all(key in _KNOWN or key.startswith("x-") for key in value)
    )


def is_empty(container: bytes) -> bool:
    """`[]` and `{}` hide nothing: `"security": [{"bearerAuth": []}]`."""
    return len(container) < 20 and not container[1:-1].strip()


def row_spans(data: bytes, start: int, end: int, columns: set[int], depth: int) -> Iterator[tuple[int, int]]:
    """Spans of the members at these places of the arrays that stand `depth` deep in an array: 1 itself, 2 its rows."""
    deep = index = 0
    item = -1  # where the member begins; -1 outside of a row
    for m in _TOKEN.finditer(data, start, end):
        c = m[0]
        if c == b"[" or c == b"{":
            deep += 1
            if deep == depth and c == b"[":
                index, item = 0, m.end()
            continue
        if c == b"," or c == b"]" or c == b"}":
            if deep == depth and item >= 0:
                if index in columns and (member := data[item : m.start()].strip()):
                    begin = data.index(member, item)
                    yield begin, begin + len(member)
                index += 1
                item = m.end() if c == b"," else -1
            if c != b",":
                deep -= 1
