"""Members of a JSON object that show that a neighbouring value is a secret: a label, OAuth's parameters, the kind of a
resource, a query with variables."""

from __future__ import annotations

import re

from .json_reading import Reading
from .json_tree import ARRAY, OBJECT, OTHER, STRING, Node
from .names import ASKED, MADE, NO, QUOTED, TEXT, YES, norm
from .record import TooCostly
from .tables import words

__all__ = ["FLAGS", "LABELS", "MEANT", "PARTNERED", "QUERIES", "WEAK_LABELS", "answer_kinds", "may_bind", "told_kinds"]

LABELS, WEAK_LABELS, _VALUED, MEANT = (frozenset(words(t)) for t in ("labels", "weak_labels", "valued", "meant"))
_ANSWERS, FLAGS = frozenset(words("answers")), frozenset(words("flags"))
_OAUTH = frozenset(map(norm, words("oauth")))
_LAST = re.compile(rb"[/.\[\]]+")
_PATHS = frozenset(
    ("path", "pointer", "instancepath", "datapath", "propertypath", "field", "name", "location", "selector")
)
_HOLDERS = frozenset(("source", "field", "element", "attribute"))  # objects whose member is the label
_DETAILS = frozenset(("detail", "message", "msg", "title", "description", "reason"))
_NOT_BESIDE_WEAK = frozenset(("instance", "context", "ctx", "from", "to", "current", "previous", "received"))
_OFTEN_SOMETHING_ELSE = frozenset(
    ["token", "tokens", "session", "auth", "cookie", "signature", "credential", "credentials"]
)
PARTNERED = frozenset(("rows", "variables", "params", "bindings"))
QUERIES = frozenset(("query", "sql", "statement", "mutation", "text", "q"))
_BOUND = frozenset(("variables", "params", "parameters", "args", "bindings", "values"))
_PLACEHOLDER = re.compile(
    rb"\b([A-Za-z_]\w{0,60})\b[\"'`\])]{0,3}\s{0,3}(?:[:=]|=>|like|in)\s{0,3}\(?\s?[$:@]([A-Za-z_]\w{0,60})", re.I
)
_POSITIONAL = re.compile(rb"\?|%s|[$:][0-9]")
_KEY_PARTS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))  # RFC 7518, section 6


def told_kinds(reading: Reading, node: Node, lows: list[str]) -> dict[int, int]:
    """Kinds of members, by their place, that something beside them tells."""
    kinds: dict[int, int] = {}
    strong, weak = label(reading, node, lows)
    if node.open and strong is None:
        cut_label = any(low in LABELS and item.open for low, (_, item) in zip(lows, node.items, strict=True))
        for at, low in enumerate(lows):
            if low in MEANT or low in PARTNERED or (cut_label and low in _VALUED):
                kinds[at] = YES
    if strong is not None or weak is not None:
        vague = strong is None and weak is not None and norm(weak.decode()) in _OFTEN_SOMETHING_ELSE
        for at, low in enumerate(lows):
            if low in (MEANT if vague else _VALUED) and (strong is not None or low not in _NOT_BESIDE_WEAK):
                kinds[at] = YES
            elif strong is not None and low in _DETAILS:
                kinds[at] = QUOTED
    present = set(lows)
    if not present.isdisjoint(FLAGS) and any(
        low in FLAGS and reading.data[item.start : item.end] == b"true"
        for low, (_, item) in zip(lows, node.items, strict=True)
    ):
        kinds.update({at: YES for at, low in enumerate(lows) if low in MEANT})
    if "logprob" in present and "token" in present:  # of a language model
        kinds[lows.index("token")] = NO
    if "code" in present and (present & _OAUTH):
        at = lows.index("code")
        item = node.items[at][1]
        if present & _OAUTH > {"state"} or present & (_OAUTH - {"state", "scope", "iss"}) or _long(reading, item):
            kinds[at] = YES
    if "pass" in present and not present.isdisjoint(("fail", "failed", "failures", "skipped")):  # of tests
        at = lows.index("pass")
        if node.items[at][1].what == OTHER:
            kinds[at] = NO
    if "roottoken" in present:  # of Vault, with the keys that unseal it
        kinds.update({at: YES for at, low in enumerate(lows) if low in ("keys", "keysbase64")})
    if "keyname" in present and "permissions" in present:  # of an account of Azure
        kinds.update({at: MADE for at, low in enumerate(lows) if low == "value"})
    if "kty" in present:  # a JSON web key: its private parts
        kinds.update({at: YES for at, low in enumerate(lows) if low in _KEY_PARTS})
    for at, (_, item) in enumerate(node.items):
        if item.what != STRING:
            continue
        if lows[at] == "kind" and reading.text(item) == b"Secret":  # of Kubernetes
            kinds.update({k: YES for k, low in enumerate(lows) if low in ("data", "stringdata")})
        elif lows[at] in QUERIES and reading.alarmed(item):
            bind(reading, node, lows, reading.text(item), kinds)
    return kinds


def answer_kinds(node: Node, lows: list[str], kinds: list[int], *, asked: bool) -> list[int]:
    """The kinds of the members of an object in which, or beside which (not asked), security questions stand."""
    plain = [low.rstrip("0123456789") for low in lows]
    beside = not {"question", "q"}.isdisjoint(plain)
    out = list(kinds)
    for at, (low, (_, item)) in enumerate(zip(plain, node.items, strict=True)):
        if kinds[at] not in (NO, ASKED):
            continue
        if low in _ANSWERS or (asked and (lows[at][-1:] == "?" or (low == "value" and beside))):
            out[at] = YES
        elif asked and item.what in (OBJECT, ARRAY):
            out[at] = ASKED
    return out


def _long(reading: Reading, node: Node) -> bool:
    """`code` beside `state` alone: one of OAuth's is long."""
    return node.what == STRING and node.end - node.start >= 14 and 32 not in reading.data[node.start : node.end]


def label(reading: Reading, node: Node, lows: list[str], *, inside: bool = False) -> tuple[bytes | None, bytes | None]:
    """The sensitive names that members of this object say it is about: surely, and perhaps."""
    strong = weak = None
    for low, (_, item) in zip(lows, node.items, strict=True):
        sure = low in LABELS
        if not inside and low in _HOLDERS and item.what == OBJECT and len(item.items) <= 4:
            held = [norm(reading.text(key).decode("utf-8", "replace")) for key, _ in item.items if key]
            strong = label(reading, item, held, inside=True)[0] or strong  # {"source": {"pointer": "/password"}}
        if not sure and low not in WEAK_LABELS:
            continue
        text = None
        if item.what == STRING and not item.open and reading.alarmed(item):
            text = reading.text(item)
            if low in ("question", "prompt") and text[-1:] in (b"?", b":") and reading.alarmed(item):
                weak = b"password"
            if low in ("id", "name") and text.find(b"/secrets/") >= 0:  # of a vault
                strong = b"secret"
            if low in _PATHS and len(text) <= 200:
                text = _LAST.split(text.strip(b"/.[]#"))[-1]
        elif item.what == ARRAY and low in ("loc", "path", "location"):
            text = next((reading.text(part) for _, part in reversed(item.items) if part.what == STRING), None)
        if text and reading.names.is_field(text):
            if sure:
                strong = text
            else:
                weak = text
    return strong, weak


def may_bind(plain: bytes) -> bool:
    """Whether this may be a query whose variables stand elsewhere: `login(password:$p)`, `password = ?`."""
    return (36 in plain or 58 in plain or 63 in plain or b"%s" in plain) and (
        _PLACEHOLDER.search(plain) is not None or _POSITIONAL.search(plain) is not None
    )


def bind(reading: Reading, node: Node, lows: list[str], query: bytes, kinds: dict[int, int]) -> None:
    """The variables of a query: those that a sensitive name takes, or all when they go by place."""
    if len(query) > 20_000:
        raise TooCostly
    bound = {m[2] for m in _PLACEHOLDER.finditer(query) if reading.names.kind(m[1]) in (YES, TEXT)}
    by_place = _POSITIONAL.search(query) is not None
    for at, low in enumerate(lows):
        item = node.items[at][1]
        if low not in _BOUND or not (bound or by_place):
            continue
        if item.what == ARRAY and by_place:
            kinds[at] = YES
        elif item.what == OBJECT:
            for key, member in item.items:
                if key is not None and (reading.text(key) in bound):
                    reading.mask(member, "")
        elif item.what == STRING:
            kinds[at] = YES
