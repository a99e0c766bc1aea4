"""What is masked before a byte leaves the process: headers, URL and query, forms; JSON and text have their own modules.

By name, on by default, fail-closed: where it cannot be told what belongs to a sensitive name, everything to the end
of the line, the whole string, or the whole body goes. `names` says which names are sensitive. Each function adds the
paths of what it masked to a list (`request.headers.authorization`), never a value, at most 64 of them.

Nothing here remembers a value. All scans are linear in their input.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .names import CLEAN, CODE, LABEL, REDACTED, VALUED, Names, card_spans
from .redaction_json import TooDense, hides_json, redact_json, speaks_oauth
from .redaction_labels import names_field
from .redaction_noted import hide, note
from .redaction_shapes import USERINFO, aws_secret_in, has_aws_id, may_hold_user, shapes, tokens_in_path
from .redaction_text import mask_text
from .reflection import hidden, hidden_bytes, hidden_header, hidden_weak

__all__ = [
    "COOKIE", "HIDDEN", "HOST", "PAIRS_MAX", "PLAIN", "PROTOCOL", "REDACTED", "SET_COOKIE", "URL", "Names", "TooDense",
    "decoded_pairs", "header_kind", "mask_header", "mask_query", "mask_text", "note", "redact_json",
]  # fmt: skip

PAIRS_MAX = 2000
_MASK = REDACTED.encode()

PLAIN, HIDDEN, COOKIE, SET_COOKIE, URL, PROTOCOL, HOST = range(7)
_KINDS = {
    "cookie": COOKIE, "set-cookie": SET_COOKIE, "location": URL, "referer": URL, "link": URL, "content-location": URL,
    "refresh": URL, "origin": URL, "x-original-url": URL, "x-rewrite-url": URL, "x-forwarded-uri": URL,
    "hx-current-url": URL, "host": HOST, "x-forwarded-host": HOST, "x-original-host": HOST, "x-host": HOST,
    "forwarded": HOST, "sec-websocket-protocol": PROTOCOL,
}  # fmt: skip
_USERINFO = re.compile(rb"(?<=//)[^/?#\s<>\"]+@")  # to the last one: a password may hold another
# Consumes whatever it meets: a pattern that can fail is tried again from each byte, which is quadratic.
# In a text with URLs in it white space and angle brackets end a value; in a header that is one URL they do not, and in
# a query or form only `&` does. A value that ended early kept the rest of a password.
_PAIR_IN_TEXT = re.compile(rb"([^?&;#=<>\s]*+)(?:=([^&#<>\s]*+)|[?&;#<>\s]|\Z)")
_PAIR_IN_URL = re.compile(rb"([^?&;#=]*+)(?:=([^&#]*+)|[?&;#]|\Z)")
_PAIR_IN_QUERY = re.compile(rb"([^&=]*+)(?:=([^&]*+)|&|\Z)")
_MARKED = re.compile(rb"[:=%>]")
_OAUTH_BESIDE = frozenset(
    (b"state", b"scope", b"session_state", b"grant_type", b"redirect_uri", b"client_id", b"iss", b"code_verifier")
)


def shown(name: str) -> str:
    """A name as it stands in a path of `redacted`: what could be a value is left out of it."""
    if "=" in name or ":" in name or not name.isprintable():
        return REDACTED
    return name if len(name) <= 40 else name[:40] + "…"


def header_kind(name: str, names: Names) -> int:
    """How the value of a header of this lower-case name is treated."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    return PLAIN if names.classify(name) in (CLEAN, CODE, LABEL, VALUED) else HIDDEN


def mask_header(kind: int, value: bytes, names: Names, redacted: list[str] | None = None) -> bytes:
    """The value as it may be kept; the very same object when nothing was masked. Latin-1 bytes in and out.

    redacted: takes what was masked, no path."""
    if kind == PLAIN:
        if value.find(b"//") >= 0 and 64 in value:
            value = _without_userinfo(value, redacted)
        if names.hit(value) and names.reveals(value):
            hide(redacted, value, names)
            return _MASK
        return value
    if kind == HOST:
        user, at, host = value.rpartition(b"@")
        if at:
            hidden(redacted, user.rpartition(b":")[2])
            return _MASK + at + host
        return mask_header(PLAIN, value, names, redacted)
    if kind == HIDDEN:
        if redacted is not None:
            hidden_header(redacted, value)
        return _MASK
    if kind == COOKIE:
        kept = []
        for part in value.split(b";"):
            name, equals, secret = part.partition(b"=")
            name = name.strip()
            _hide_cookie(name, secret if equals else part, names, redacted)
            kept.append(name + b"=" + _MASK if equals else _MASK)
        return b"; ".join(kept)
    if kind == SET_COOKIE:
        pair, _, attributes = value.partition(b";")
        name, equals, secret = pair.partition(b"=")
        _hide_cookie(name.strip(), secret if equals else pair, names, redacted)
        cookie = name.strip() + b"=" + _MASK if equals else _MASK
        return cookie + b";" + attributes if attributes else cookie
    if kind == URL:
        if len(value) > _URL_MAX:  # no server sends or takes one of this length
            hide(redacted, value[:_URL_MAX], names)
            return _MASK
        return mask_url(value, names, redacted)
    # A sub-protocol is a short word; browsers have no other place to put a token.
    if names.hit(value) or any(len(part.strip()) > 40 for part in value.split(b",")):
        for part in value.split(b",", 16):
            hidden_weak(redacted, part.strip())
        return _MASK
    return value


def _hide_cookie(name: bytes, value: bytes, names: Names, redacted: list[str] | None) -> None:
    value = value.strip(b' \t"')
    # What a cookie of a harmless name holds may be a language or a theme.
    weak = len(name) <= 40 and names.classify_bytes(name) == CLEAN
    hidden_bytes(redacted, value, weak=weak)
    if 37 in value:
        hidden_bytes(redacted, unquote_to_bytes(value), weak=weak)


def _without_userinfo(value: bytes, redacted: list[str] | None) -> bytes:
    def one(m: re.Match[bytes]) -> bytes:
        name, colon, password = m[0][:-1].partition(b":")
        hidden(redacted, decoded(password if colon else name))
        return _MASK + b"@"

    value = _USERINFO.sub(one, value)
    if not may_hold_user(value):
        return value

    def slashed(m: re.Match[bytes]) -> bytes:
        hidden(redacted, decoded(m[0][3:-1].partition(b":")[2]))
        return b"://" + _MASK + b"@"

    return USERINFO.sub(slashed, value)


def _without_tokens(value: bytes, redacted: list[str] | None) -> bytes:
    """A path or URL with what looks random after `reset-password` and the like masked."""
    spans = tokens_in_path(value)
    for start, end in reversed(spans):
        hidden(redacted, unquote_to_bytes(value[start:end]))
        value = value[:start] + _MASK + value[end:]
    return value


def mask_url(value: bytes, names: Names, redacted: list[str] | None = None, *, text: bool = False) -> bytes:
    """A URL, or a header with URLs in it: user information and sensitive parameters of query and fragment masked.

    redacted: takes what was masked, no path. text: it is a text in which URLs stand."""
    if 64 in value:
        value = _without_userinfo(value, redacted)
    value = _without_tokens(value, redacted)
    if not names.hit(value) and value.find(b"code=") < 0:
        return value
    return _mask_pairs(_PAIR_IN_TEXT if 60 in value or text else _PAIR_IN_URL, value, names, redacted, "")


def mask_query(raw: bytes, names: Names, redacted: list[str], base: str) -> bytes:
    """A raw query string with the values of sensitive parameters masked, the rest as received."""
    return _mask_pairs(_PAIR_IN_QUERY, raw, names, redacted, base)


def mask_path(path: bytes, names: Names, redacted: list[str]) -> bytes:
    """A path, decoded or as received, with matrix parameters (`;jsessionid=x`) and segments of the form name=value
    masked; segments that are a secret by their form; and what looks random after `reset-password` and the like."""
    kept = _without_userinfo(path, redacted) if may_hold_user(path) else path
    kept = _without_tokens(kept, redacted)
    if kept != path:
        note(redacted, "request.path")
        path = kept
    if not names.hit(path):
        return path
    parts = _PATH_PARTS.split(path)
    changed = False
    hits = 0
    for at in range(0, len(parts), 2):
        part = parts[at]
        if len(part) < 4 or not names.hit(part):
            continue
        hits += 1
        if hits > _PATH_HITS_MAX:
            parts[at:] = [_MASK]
            changed = True
            break
        plain = part
        for _ in range(3):
            plain = unquote_to_bytes(plain)
        if b"=" not in plain:
            if next(shapes(plain), None) is None and not card_spans(plain, 1):
                continue
            hidden(redacted, plain)
            parts[at] = _MASK
        else:
            masked = _mask_pairs(_PAIR_IN_URL, part, names, redacted, "")
            if masked == part:
                if not names.reveals(plain):
                    continue
                hide(redacted, plain, names)
                masked = _MASK
            parts[at] = masked
        changed = True
    if not changed:
        return path
    note(redacted, "request.path")
    return b"".join(parts)


_PATH_HITS_MAX = 100
_URL_MAX = 16_384
_QUERIES_MAX = 20
_PATH_PARTS = re.compile(rb"([/;])")


def _hides_variables(raw: bytes, names: Names) -> bool:
    """Whether this is a GraphQL query string in which a secret is passed as a variable of any name."""
    if raw.find(b"variables=") < 0:
        return False
    return raw.count(b"query=") > _QUERIES_MAX or any(
        part.startswith(b"query=") and names.suspicious(decoded(part[6:])) for part in raw.split(b"&", PAIRS_MAX)
    )


def _labels_secret(raw: bytes, names: Names) -> bool:
    """Whether one parameter names a sensitive field (`name=password&value=x`)."""
    if raw.find(b"value=") < 0 and raw.find(b"Value=") < 0:
        return False
    for part in raw.split(b"&", PAIRS_MAX):
        name, _, value = part.partition(b"=")
        if len(value) <= 100 and names.classify_bytes(decoded(name)) == LABEL:
            plain = decoded(value)
            if names.hit(plain) and names_field(plain, names.classify_bytes(plain)):
                return True
    return False


def _mask_pairs(
    pair: re.Pattern[bytes], text: bytes, names: Names, redacted: list[str] | None, base: str
) -> bytes:  # fmt: skip
    """base: no path is noted when it is empty."""
    oauth = _speaks_oauth(text)
    graphql = _hides_variables(text, names)
    aws = has_aws_id(text)
    labelled = _labels_secret(text, names)

    def one(m: re.Match[bytes]) -> bytes:
        name, value = m[1], m[2]
        plain = decoded(name)
        if not value:
            # No pair, or one whose name holds the value: `?{"password":"x"}`.
            if name and names.suspicious(plain):
                hide(redacted, plain, names)
                if redacted is not None and base:
                    note(redacted, base + "." + REDACTED)
                return _MASK + m[0][len(name) :]
            return m[0]
        kind = names.classify_bytes(plain)
        clean = kind in (CLEAN, LABEL) or (kind == CODE and not oauth) or (kind == VALUED and not labelled)
        if graphql and plain == b"variables":
            clean = False
        hidden_name = False
        if _MARKED.search(plain) and (not clean or names.suspicious(plain)):
            hidden_name = True
            clean = False
            hide(redacted, plain, names)
        plain_value = decoded(value)
        if not clean:
            hidden(redacted, plain_value)
        elif not _suspicious(plain_value, names, redacted) and not (aws and aws_secret_in(plain_value)):
            return m[0]
        else:
            hide(redacted, plain_value, names)
        if redacted is not None and base:
            note(redacted, base + "." + shown(plain.decode("utf-8", "replace")))
        return (_MASK if hidden_name else name) + b"=" + _MASK

    return pair.sub(one, text)


def _speaks_oauth(text: bytes) -> bool:
    if text.find(b"code") < 0:
        return False
    return any(part.partition(b"=")[0] in _OAUTH_BESIDE for part in re.split(rb"[?&;#]", text, maxsplit=PAIRS_MAX))


def _suspicious(value: bytes, names: Names, redacted: list[str] | None) -> bool:
    """Whether a decoded value holds a secret. It may be a JSON document: `payload={"pin":…}`."""
    if value[:1] in (b"{", b"[") and (names.hit(value) or speaks_oauth(value)):
        told = hides_json(value, names, redacted)
        if told is not None:
            return told
    return names.suspicious(value)


def decoded(text: bytes) -> bytes:
    """Percent and plus decoded, once."""
    if 43 in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if 37 in text else text


def decoded_pairs(
    raw: bytes, names: Names, redacted: list[str], base: str, *, hit: bool
) -> tuple[dict[str, str | list[str]], bool]:
    """The parameters of a query or form, repeated ones as arrays, the sensitive ones masked when `hit`; and whether
    they were cut after PAIRS_MAX. Names and values that are no UTF-8 have U+FFFD where it broke."""
    found: dict[str, str | list[str]] = {}
    parts = raw.split(b"&", PAIRS_MAX)
    cut = len(parts) > PAIRS_MAX
    oauth = hit and _speaks_oauth(raw)
    graphql = hit and _hides_variables(raw, names)
    aws = hit and has_aws_id(raw)
    labelled = hit and _labels_secret(raw, names)
    if hit:
        names.look(len(raw) + 192 * len(parts), 2)
    for part in parts[:PAIRS_MAX]:
        if not part:
            continue
        name, _, value = part.partition(b"=")
        plain_name = decoded(name)
        key = plain_name.decode("utf-8", "replace")
        plain = decoded(value)
        text = plain.decode("utf-8", "replace")
        if hit:
            kind = names.classify_bytes(plain_name)
            sensitive = kind not in (CLEAN, CODE, LABEL, VALUED)
            sensitive = sensitive or (kind == CODE and oauth) or (kind == VALUED and labelled)
            sensitive = sensitive or (graphql and key == "variables")
            # The name itself may hold the value: `{"password":"x"}` sent as a form.
            if _MARKED.search(plain_name) and (sensitive or names.suspicious(plain_name)):
                key = REDACTED
                sensitive = True
                hide(redacted, plain_name, names)
            masks = sensitive or _suspicious(plain, names, redacted) or (aws and aws_secret_in(plain))
            if masks and (text or key is REDACTED):
                if sensitive:
                    hidden(redacted, plain)
                else:
                    hide(redacted, plain, names)
                text = REDACTED
                note(redacted, base + "." + shown(key))
        before = found.get(key)
        if before is None:
            found[key] = text
        elif isinstance(before, list):
            before.append(text)
        else:
            found[key] = [before, text]
    return found, cut
