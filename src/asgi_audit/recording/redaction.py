"""What is masked before a byte leaves the process: headers, URL and query, forms and text; JSON has its own module.

By name, on by default, fail-closed: where it cannot be told what belongs to a sensitive name, everything to the end
of the line, the whole string, or the whole body goes. `names` says which names are sensitive. Each function adds the
paths of what it masked to a list (`request.headers.authorization`), never a value, at most 64 of them.

Nothing here remembers a value. All scans are linear in their input.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import orjson

from .names import CLEAN, CODE, LABEL, LOOSE, REDACTED, SENSITIVE, VALUE_PATTERN, VALUED, Names, card_spans
from .redaction_json import TooDense, redact_json
from .redaction_markup import is_markup, mask_markup
from .redaction_short import PATHS_MAX
from .reflection import hidden, hidden_bytes, hidden_header, hidden_text, hidden_weak, hidden_word

__all__ = [
    "COOKIE", "HIDDEN", "HOST", "PAIRS_MAX", "PLAIN", "PROTOCOL", "REDACTED", "SET_COOKIE", "URL", "Names", "TooDense",
    "decoded_pairs", "header_kind", "mask_header", "mask_query", "mask_text", "note", "redact_json",
]  # fmt: skip

PAIRS_MAX = 2000
LINES_MAX = 300  # lines of a text with something to mask: beyond, the text is omitted and the thread freed
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


def note(redacted: list[str], path: str) -> None:
    if len(redacted) < PATHS_MAX and path not in redacted:
        redacted.append(path[:200])


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
            hidden_text(redacted, value, names)
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

    return _USERINFO.sub(one, value)


def mask_url(value: bytes, names: Names, redacted: list[str] | None = None, *, text: bool = False) -> bytes:
    """A URL, or a header with URLs in it: user information and sensitive parameters of query and fragment masked.

    redacted: takes what was masked, no path. text: it is a text in which URLs stand."""
    if 64 in value:
        value = _without_userinfo(value, redacted)
    if not names.hit(value) and value.find(b"code=") < 0:
        return value
    return _mask_pairs(_PAIR_IN_TEXT if 60 in value or text else _PAIR_IN_URL, value, names, redacted, "")


def mask_query(raw: bytes, names: Names, redacted: list[str], base: str) -> bytes:
    """A raw query string with the values of sensitive parameters masked, the rest as received."""
    return _mask_pairs(_PAIR_IN_QUERY, raw, names, redacted, base)


def mask_path(path: bytes, names: Names, redacted: list[str]) -> bytes:
    """A path, decoded or as received, with matrix parameters (`;jsessionid=x`) and segments of the form name=value
    masked; and segments that are a secret by their form."""
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
            if VALUE_PATTERN.search(plain) is None and not card_spans(plain, 1):
                continue
            hidden(redacted, plain)
            parts[at] = _MASK
        else:
            masked = _mask_pairs(_PAIR_IN_URL, part, names, redacted, "")
            if masked == part:
                if not names.reveals(plain):
                    continue
                hidden_text(redacted, plain, names)
                masked = _MASK
            parts[at] = masked
        changed = True
    if not changed:
        return path
    note(redacted, "request.path")
    return b"".join(parts)


_PATH_HITS_MAX = 100
_QUERIES_MAX = 20
_PATH_PARTS = re.compile(rb"([/;])")


def _hides_variables(raw: bytes, names: Names) -> bool:
    """Whether this is a GraphQL query string in which a secret is passed as a variable of any name."""
    if raw.find(b"variables=") < 0:
        return False
    return raw.count(b"query=") > _QUERIES_MAX or any(
        part.startswith(b"query=") and names.suspicious(decoded(part[6:])) for part in raw.split(b"&", PAIRS_MAX)
    )


def _mask_pairs(
    pair: re.Pattern[bytes], text: bytes, names: Names, redacted: list[str] | None, base: str
) -> bytes:  # fmt: skip
    """base: no path is noted when it is empty."""
    oauth = _speaks_oauth(text)
    graphql = _hides_variables(text, names)

    def one(m: re.Match[bytes]) -> bytes:
        name, value = m[1], m[2]
        plain = decoded(name)
        if not value:
            # No pair, or one whose name holds the value: `?{"password":"x"}`.
            if name and names.suspicious(plain):
                hidden_text(redacted, plain, names)
                if redacted is not None and base:
                    note(redacted, base + "." + REDACTED)
                return _MASK + m[0][len(name) :]
            return m[0]
        kind = names.classify_bytes(plain)
        clean = kind in (CLEAN, LABEL, VALUED) or (kind == CODE and not oauth)
        if graphql and plain == b"variables":
            clean = False
        hidden_name = False
        if _MARKED.search(plain) and (not clean or names.suspicious(plain)):
            hidden_name = True
            clean = False
            hidden_text(redacted, plain, names)
        plain_value = decoded(value)
        if not clean:
            hidden(redacted, plain_value)
        elif not names.suspicious(plain_value):
            return m[0]
        else:
            hidden_text(redacted, plain_value, names)
        if redacted is not None and base:
            note(redacted, base + "." + shown(plain.decode("utf-8", "replace")))
        return (_MASK if hidden_name else name) + b"=" + _MASK

    return pair.sub(one, text)


def _speaks_oauth(text: bytes) -> bool:
    if text.find(b"code") < 0:
        return False
    return any(part.partition(b"=")[0] in _OAUTH_BESIDE for part in re.split(rb"[?&;#]", text, maxsplit=PAIRS_MAX))


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
            sensitive = kind not in (CLEAN, CODE, LABEL, VALUED) or (kind == CODE and oauth)
            sensitive = sensitive or (graphql and key == "variables")
            # The name itself may hold the value: `{"password":"x"}` sent as a form.
            if _MARKED.search(plain_name) and (sensitive or names.suspicious(plain_name)):
                key = REDACTED
                sensitive = True
                hidden_text(redacted, plain_name, names)
            hide = sensitive or names.suspicious(plain)
            if hide and (text or key is REDACTED):
                if sensitive:
                    hidden(redacted, plain)
                else:
                    hidden_text(redacted, plain, names)
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


def mask_text(text: bytes, names: Names, redacted: list[str], base: str, *, markup: bool = False) -> bytes | None:
    """Text (UTF-8) that had a hit, with what follows a sensitive name masked to the end of its line; None when that
    cannot be proven enough and the text must be omitted.

    Lines that are JSON documents of their own (NDJSON, server-sent events) are masked as JSON. markup: it is HTML or
    XML, whatever it begins with."""
    if markup or is_markup(text):
        masked_text = mask_markup(text, names, redacted, lambda part: mask_lines(part, names, redacted, base))
        if masked_text is not None and masked_text != text:
            note(redacted, base)
        return masked_text
    return mask_lines(text, names, redacted, base)


def mask_lines(text: bytes, names: Names, redacted: list[str], base: str) -> bytes | None:
    """`mask_text` of what is no markup."""
    first = text.lstrip()[:1]
    lines = text.split(b"\n")
    at_json = [k for k, line in enumerate(lines) if _json_begin(line) >= 0]
    if at_json and len(at_json) < len([line for line in lines if line.strip()]) // 2 and first in (b"{", b"["):
        return None  # one broken document over many lines: names and values may stand on different ones
    if len(at_json) > 10 * LINES_MAX:
        return None
    done = bytearray(len(lines))
    masked_json = 0
    for k in at_json:
        line = lines[k]
        if not names.hit(line):
            continue
        masked_json += 1
        if masked_json > LINES_MAX:
            return None
        begin = _json_begin(line)
        document = line[begin:].rstrip()
        try:
            orjson.loads(document)
            masked = redact_json(document, names, base, redacted)
        except (orjson.JSONDecodeError, TooDense):
            if begin == 0 and len(lines) == 1:
                return None
            masked = _MASK
            hidden_text(redacted, document, names)
            note(redacted, base)
        lines[k] = line[:begin] + masked
        done[k] = 1
    joined = b"\n".join(b"" if done[k] else line for k, line in enumerate(lines))
    hits = names.lines_hit(joined, LINES_MAX)
    if hits is None:
        return None
    for number, m in enumerate(_LABEL_LINE.finditer(joined)):
        if number >= LINES_MAX:
            return None
        if len(lines) > 1 and names.classify_bytes(m[1]) in (SENSITIVE, LOOSE):
            return None  # `key: password`, and `value:` on another line: which one cannot be told
    steps = told = 0
    for k in hits:
        if done[k]:
            continue
        note(redacted, base)
        indent = _indent(lines[k])
        kept, rest = _mask_line(lines[k], names)
        hidden_word(redacted, rest)
        lines[k] = kept
        quote = rest.lstrip()[:1]
        left_open = quote in (b'"', b"'") and (rest.count(quote) & 1 == 1 or rest.lstrip().startswith(3 * quote))
        follow = k
        while not (stripped := rest.strip(b" \t\r\"'")):
            # The value stands on the next line; which may be the name of another one.
            follow = next((n for n in range(follow + 1, len(lines)) if lines[n].strip()), -1)
            if follow < 0:
                break
            rest = _mask_line(lines[follow], names)[1] if names.suspicious(lines[follow]) else lines[follow]
            hidden_word(redacted, rest)
            lines[follow] = _MASK
            done[follow] = 1
            steps += 1
            if steps > LINES_MAX:
                return b"\n".join(lines[: follow + 1])  # empty lines without end: the rest goes
        opens = (
            left_open
            or stripped[:1] in (b"{", b"[", b"(", b"|", b">", b"<")
            or stripped[-1:] in (b"\\", b"{", b"[", b"(")
        )
        if opens or b"-----BEGIN" in rest:
            # A value that goes on over lines: where it ends cannot be told.
            return b"\n".join(lines[: max(k, follow) + 1])
        # YAML and folded headers: the value goes on in deeper lines, a list in lines with a dash.
        listed = follow > k
        for n in range(max(k, follow) + 1, len(lines)):
            line = lines[n]
            if line.strip():
                deeper = _indent(line) - indent
                if not (deeper > 0 or (listed and deeper == 0 and line.lstrip().startswith(b"-"))):
                    break
                if not done[n]:
                    told += 1
                    if told <= LINES_MAX:  # 4 µs each
                        hidden_word(redacted, line.strip(b" \t\r-"))
                    lines[n] = _MASK
                    done[n] = 1
    return b"\n".join(lines)


_LABEL_LINE = re.compile(
    rb"^[ \t-]*+(?i:key|name|field|id|type|label|param|parameter|header|property)[ \t]*+[:=][ \t]*+[\"']?([\w.-]{2,60})"
    rb"[\"']?[ \t\r,]*+$",
    re.M,
)


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip(b" \t"))


def _json_begin(line: bytes) -> int:
    """Where a JSON container begins on this line, after `data:` of an event; -1 when none does."""
    stripped = line.lstrip()
    at = len(line) - len(stripped)
    if stripped.startswith(b"data:"):
        rest = stripped[5:].lstrip()
        at = len(line) - len(rest)
        stripped = rest
    return at if stripped[:1] in (b"{", b"[") else -1


_CLAUSE = re.compile(rb"[^:=>]*+(?:[:=>]|\Z)")


def _mask_line(line: bytes, names: Names) -> tuple[bytes, bytes]:
    """The line with everything after the first sensitive name's separator masked, and what was masked."""
    pattern = VALUE_PATTERN.search(line)
    cards = card_spans(line, 1)
    starts = [m.start() for m in (pattern,) if m] + [cards[0][0] for _ in (1,) if cards]
    limit = min(starts, default=len(line))
    if len(line) <= 2048:
        for m in _CLAUSE.finditer(line):
            if m.end() > limit:
                break
            if names.names_value(m[0]):
                rest = line[m.end() :]
                lead = len(rest) - len(rest.lstrip(b" \"'"))
                return line[: m.end() + lead] + _MASK, rest
        if starts:
            return line[:limit] + _MASK, line[limit:]
    return _MASK, line
