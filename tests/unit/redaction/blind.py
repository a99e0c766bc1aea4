"""A third set of secrets in documents (`documents/`), which was written before the engine was run on it.

`documents/*.txt` hold the templates: after `%%% kind` each line is one template; after `%% kind` the lines up to the
next mark are one. `§` is the secret, `§m` one that looks machine-made, `§n` one of six digits, `§u` percent-encoded,
`§6` in base64, `§b` in base64 after `mira:`, `§j` in the base64 of a JSON document, `§h` in hex. The kinds are those
of `TYPES`, for bodies, and of `PLACES`. Each name of `names.txt` is put into each structure of `structures.txt` (at
`¤`); `vendors.txt` holds formats of keys. Templates whose leaks are accepted are in `not_promised.txt`, with the
reason after their kind. Sources: the documentation of the service, tool or protocol whose format a template has.
"""

from __future__ import annotations

import base64
import html
import json
import random
import re
import string
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote

from tests.support.exchanges import make_body, make_exchange

from asgi_audit.exchange.sealed import Exchange

from . import wild

FOLDER = Path(__file__).parent / "documents"
FILES = ("cloud", "identity", "services", "files", "rpc", "logs", "mails", "exports", "keys", "strangers")
TYPES = {
    "json": b"application/json", "form": b"application/x-www-form-urlencoded", "xml": b"application/xml",
    "html": b"text/html; charset=utf-8", "text": b"text/plain; charset=utf-8", "csv": b"text/csv",
}  # fmt: skip
PLACES = ("header", "answer", "query", "path")  # `answer`: a header of the response
# Secrets that read as the name of a field, as people write them into examples and tests.
SOUNDING = (
    "planted-secret-", "my-secret-token-", "SuperSecretPassword", "secret_password_", "TOKEN-", "leaked-password-",
    "api-key-secret-", "MySecretToken",
)  # fmt: skip
# Templates in which the sign of the secret comes after it, or in which the secret occurs twice: when the end is cut
# off, nothing identifies the secret.
_TOLD_LATER = re.compile(
    "§[mn]?[\"']?(?: \\||[@>]| is (?:my|your|the)\\b| as | login |&s(?:tate|cope)=| /add)"
    '|keys":\\["§|x-oauth-basic|detail":"\'§|changed from|<col name|password\\(§'
    '|"><label for|basic_auth|Auth=|[?]?auth=|data-secret|^G-|(?s:§.*§)|ENV\\[|ss://|client.login|user jo on >'
)
_LETTERS = {
    "a": string.ascii_lowercase + string.digits, "h": "0123456789abcdef", "A": string.ascii_letters + string.digits,
    "U": string.ascii_uppercase + "234567", "w": string.ascii_letters + string.digits + "_-", "d": string.digits,
    "B": string.ascii_letters + string.digits + "+/",
}  # fmt: skip


class Template(NamedTuple):
    group: str
    kind: str
    text: str


class Planted(NamedTuple):
    template: Template
    secret: str
    exchange: Exchange


def read(name: str) -> list[Template]:
    """Returns the templates of a file."""
    found: list[Template] = []
    group, kind, each_line = name, "", False
    block: list[str] = []

    def close() -> None:
        if block:
            found.append(Template(group, kind, "\n".join(block) + "\n"))
        block.clear()

    for line in (FOLDER / f"{name}.txt").read_text("utf-8").split("\n"):
        if line.startswith("%%"):
            close()
            each_line = line.startswith("%%%")
            kind, _, reason = line.lstrip("% ").strip().partition(" | ")
            group = reason or name
        elif kind and each_line and line:
            found.append(Template(group, kind, line))
        elif kind and not each_line:
            block.append(line)
    if block and not block[-1]:
        block.pop()
    close()
    return found


@cache
def templates() -> tuple[Template, ...]:
    """Returns the templates of all services, tools and protocols."""
    return tuple(template for name in FILES for template in read(name))


@cache
def cuttable() -> tuple[Template, ...]:
    """Returns the templates whose secret can be recognised even when the end is cut off."""
    return tuple(t for t in templates() if t.kind in TYPES and not _TOLD_LATER.search(t.text))


@cache
def named() -> tuple[Template, ...]:
    """Returns each name in each structure."""
    names = [n for n in (FOLDER / "names.txt").read_text("utf-8").split("\n") if n and n[0] != "#"]
    return tuple(
        Template(f"name {name}", t.kind, t.text.replace("¤", _spelled_name(name, t.kind)))
        for t in read("structures")
        for name in names
    )


def _spelled_name(name: str, kind: str) -> str:
    return quote(name) if kind == "form" else name


class Vendor(NamedTuple):
    name: str
    prefix: str
    letters: str
    size: int

    def key(self, rng: random.Random) -> str:
        return self.prefix + "".join(rng.choices(_LETTERS[self.letters], k=self.size))


@cache
def vendors() -> tuple[Vendor, ...]:
    rows = [
        line.split(" | ")
        for line in (FOLDER / "vendors.txt").read_text("utf-8").split("\n")
        if " | " in line and line[0] != "#"
    ]
    return tuple(Vendor(name, prefix, letters, int(size)) for name, prefix, letters, size in rows)


def planted(template: Template, seed: int, kept: float | None = None, *, sounding: bool = False) -> Planted:
    """Returns the exchange with a secret in this template. kept: the fraction of the body that its limit left, from
    0 to 1. sounding: the secret reads as the name of a field."""
    rng = random.Random(f"{template.text} {seed}")
    value = wild.secret(rng)
    if "§n" in template.text:
        value = f"{rng.randrange(10**5, 10**6)}"
    elif "§m" in template.text:
        value = "zK7" + "".join(rng.choices(string.ascii_letters + string.digits, k=29)) + "4"
    elif sounding:
        value = f"{rng.choice(SOUNDING)}{rng.randrange(100, 10**5)}"
    return _exchange(rng, template, value, filled(template, value), kept)


def known(vendor: Vendor, seed: int) -> Planted:
    """A vendor's key under a harmless name."""
    rng = random.Random(f"{vendor} {seed}")
    value = vendor.key(rng)
    kind, text = rng.choice([
        ("json", '{"note":"§","n":1}'), ("json", '{"items":[{"text":"see § there"}]}'), ("text", "INFO saw § in it\n"),
        ("text", "note = §\n"), ("html", "<p>x <i>§</i></p>"), ("csv", "id,note\n1,§\n"), ("xml", "<a><b>§</b></a>"),
        ("form", "note=§&a=1"),
    ])  # fmt: skip
    template = Template(f"vendor {vendor.name}", kind, text)
    return _exchange(rng, template, value, filled(template, value), None)


def filled(template: Template, value: str) -> str:
    """Returns the templates whose secret can be recognised even when the end is cut off."""
    plain = quote_plus(value) if template.kind in ("form", "query") else value
    if template.kind == "path":
        plain = quote(value, safe="")
    if template.kind in ("xml", "html") or "&quot;" in template.text:
        plain = html.escape(value)
    spellings = {
        "b": base64.b64encode(f"mira:{value}".encode()).decode(),
        "6": base64.b64encode(value.encode()).decode(),
        "j": base64.b64encode(json.dumps({"username": "m", "password": value}).encode()).decode(),
        "u": quote(value, safe=""),
        "h": value.encode().hex(),
    }
    return re.sub("§([nub6jhm]?)(?![a-z])|§", lambda m: spellings.get(m[1], plain), template.text)


def _exchange(rng: random.Random, template: Template, value: str, text: str, kept: float | None) -> Planted:
    data = text.encode()
    if template.kind in PLACES:
        return Planted(template, value, _placed(template.kind, data))
    side = rng.choice(["request", "response"])
    kind = TYPES[template.kind]
    if side == "request":
        x = make_exchange("POST", body=data, content_type=kind)
    else:
        x = make_exchange("POST", answer=data, answer_type=kind)
    if kept is not None:
        size = max(1, round(len(data) * kept))
        setattr(x, f"{side}_body", make_body(data + b" " * 10, kept=size))
    return Planted(template, value, x)


def _placed(kind: str, text: bytes) -> Exchange:
    """The exchange with this in its query, path or a header."""
    if kind == "query":
        return make_exchange("GET", query=text)
    if kind == "path":
        return make_exchange("GET", path=unquote(text.decode()), raw_path=text)
    name, _, value = text.partition(b": ")
    pair = [(name.lower(), value)]
    return make_exchange("GET", headers=pair) if kind == "header" else make_exchange("GET", answer_headers=pair)
