"""Members of a JSON object that show that a neighbouring value is a secret: a label, OAuth's parameters, the kind of a
resource, a query with variables."""

from __future__ import annotations

import re
from collections.abc import Collection

from .json_tree import ARRAY, OBJECT, OTHER, STRING, Node, Reading
from .names import ASKED, MADE, NO, QUOTED, TEXT, YES, norm
from .record import TooCostly
from .tables import words

__all__ = ["FLAGS", "TELLING", "answer_kinds", "may_bind", "told_kinds"]

_LABELS, _WEAK_LABELS, _VALUED, _MEANT = (frozenset(words(t)) for t in ("labels", "weak_labels", "valued", "meant"))
_ANSWERS, FLAGS = frozenset(words("answers")), frozenset(words("flags"))
_OAUTH = frozenset(map(norm, words("oauth")))
_COIN, _SYMBOL = ("price", "symbol", "chainid", "marketcap", "decimals"), re.compile(rb"[A-Z]{2,6}")
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
_PARTNERED = frozenset(("rows", "variables", "params", "bindings"))
_QUERIES = frozenset(("query", "sql", "statement", "mutation", "text", "q"))
_BOUND = frozenset(("variables", "params", "parameters", "args", "bindings", "values"))
_PLACEHOLDER = re.compile(
    rb"\b([A-Za-z_]\w{0,60})\b[\"'`\])]{0,3}\s{0,3}(?:[:=]|=>|like|in)\s{0,3}\(?\s?[$:@]([A-Za-z_]\w{0,60})", re.I
)
_POSITIONAL = re.compile(rb"\?|%s|[$:][0-9]")
# One of these keys may tell what another member of its object is.
_ALONE = ("kind", "code", "logprob", "startoffset", "token", "kty", "source", "roottoken", "pass")
TELLING = frozenset().union(_LABELS, _WEAK_LABELS, _MEANT, _PARTNERED, _QUERIES, FLAGS, _ALONE)


def told_kinds(reading: Reading, node: Node, lows: list[str]) -> dict[int, int]:
    """Kinds of members, by their place, that something beside them tells."""
    kinds: dict[int, int] = {}

    def tell(members: Collection[str], kind: int) -> None:
        kinds.update({at: kind for at, low in enumerate(lows) if low in members})

    strong, weak = label(reading, node, lows)
    items = node.items
    if node.open and strong is None:
        cut_label = any(low in _LABELS and item.open for low, item in zip(lows, items, strict=True))
        tell(_MEANT | _PARTNERED | (_VALUED if cut_label else set()), YES)
    if strong is not None:
        tell(_DETAILS, QUOTED)
        tell(_VALUED, YES)
    elif weak is not None:
        vague = norm(weak.decode()) in _OFTEN_SOMETHING_ELSE
        tell((_MEANT if vague else _VALUED) - _NOT_BESIDE_WEAK, YES)
    present = set(lows)
    if any(
        low in FLAGS and reading.data[item.start : item.end] == b"true" for low, item in zip(lows, items, strict=True)
    ):
        tell(_MEANT, YES)
    if not present.isdisjoint(("logprob", "startoffset")):  # of a language model, of a search engine
        tell(("token",), NO)
    if not present.isdisjoint(_COIN):  # `{"token": "ETH", "price": 1}`
        kinds.update(
            {k: NO for k, low in enumerate(lows) if low == "token" and _SYMBOL.fullmatch(reading.text(items[k]))}
        )
    oauth = present & _OAUTH
    if (
        "code" in present
        and oauth
        and (oauth > {"state"} or oauth - {"state", "scope", "iss"} or _long(reading, items[lows.index("code")]))
    ):
        tell(("code",), YES)
    if not present.isdisjoint(("fail", "failed", "failures", "skipped")):  # of tests
        kinds.update({at: NO for at, low in enumerate(lows) if low == "pass" and items[at].what == OTHER})
    if "roottoken" in present:  # of Vault, with the keys that unseal it
        tell(("keys", "keysbase64"), YES)
    if present >= {"keyname", "permissions"}:  # of an account of Azure
        tell(("value",), MADE)
    if "kty" in present:  # a JSON web key: its private parts (RFC 7518, section 6)
        tell(("d", "p", "q", "dp", "dq", "qi", "oth", "k"), YES)
    for low, item in zip(lows, items, strict=True):
        if item.what == STRING and low == "kind" and reading.text(item) == b"Secret":  # of Kubernetes
            tell(("data", "stringdata"), YES)
        elif item.what == STRING and low in _QUERIES and reading.alarmed(item):
            bind(reading, node, lows, reading.text(item), kinds)
    return kinds


def answer_kinds(node: Node, lows: list[str], kinds: list[int], *, asked: bool) -> list[int]:
    """The kinds of the members of an object in which, or beside which (not asked), security questions stand."""
    plain = [low.rstrip("0123456789") for low in lows]
    beside = not {"question", "q"}.isdisjoint(plain)
    out = list(kinds)
    for at, (low, item) in enumerate(zip(plain, node.items, strict=True)):
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
    for low, item in zip(lows, node.items, strict=True):
        sure = low in _LABELS
        if not inside and low in _HOLDERS and item.what == OBJECT and len(item.items) <= 4:
            held = [norm(reading.text(key).decode("utf-8", "replace")) for key in item.keys]
            strong = label(reading, item, held, inside=True)[0] or strong  # {"source": {"pointer": "/password"}}
        if not sure and low not in _WEAK_LABELS:
            continue
        text = None
        if item.what == STRING and not item.open and reading.alarmed(item):
            text = reading.text(item)
            if low in ("question", "prompt") and text[-1:] in (b"?", b":"):
                weak = b"password"
            if low in ("id", "name") and text.find(b"/secrets/") >= 0:  # of a vault
                strong = b"secret"
            if low in _PATHS and len(text) <= 200:
                text = _LAST.split(text.strip(b"/.[]#"))[-1]
        elif item.what == ARRAY and low in ("loc", "path", "location"):
            text = next((reading.text(part) for part in reversed(item.items) if part.what == STRING), None)
        if text and not (low == "code" and 47 in text) and reading.names.is_field(text):  # no `auth/wrong-password`
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
    for at, (low, item) in enumerate(zip(lows, node.items, strict=True)):
        if low not in _BOUND or not (bound or by_place):
            continue
        if item.what == ARRAY and by_place:
            kinds[at] = YES
        elif item.what == OBJECT:
            for key, member in zip(item.keys, item.items, strict=True):
                if reading.text(key) in bound:
                    reading.mask(member, "")
        elif item.what == STRING:
            kinds[at] = YES
