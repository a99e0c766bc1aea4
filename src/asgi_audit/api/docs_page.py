"""The page `/docs`: renders the OpenAPI document as self-contained HTML. It loads nothing, runs no script, and works
without access to any other network. A request is shown as a `curl` command.

Existing renderers were rejected: even small ones have 1 to 3 MB of script, more than this whole package, on a page that
an operator uses together with an auditor's key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

__all__ = ["CONTENT_SECURITY_POLICY", "page_of"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #06c; --get: #07702f; --post: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --link: #6bf; --get: #5dd58a; --post: #f0a850; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 17rem minmax(0, 1fr); }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow: auto; padding: 1.5rem 1rem;
  border-right: 1px solid var(--line); font-size: .9rem; overflow-wrap: anywhere; }
nav ul { list-style: none; margin: 0 0 1rem; padding: 0; }
main { padding: 1.5rem 2.5rem 6rem; max-width: 62rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
h1 small { font-weight: normal; opacity: .6; font-size: 1rem; }
h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
h3 { margin: 2.5rem 0 .25rem; }
code, pre { font: .875em/1.5 ui-monospace, monospace; }
pre { background: var(--soft); padding: .75rem 1rem; overflow: auto; border-radius: .4rem; max-height: 30rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
td:first-child { white-space: nowrap; }
.method { font-weight: 700; } .get { color: var(--get); } .post { color: var(--post); }
.required { opacity: .6; font-size: .85em; }
summary { cursor: pointer; }
@media (max-width: 52rem) { body { display: block; } nav { position: static; border: 0; } main { padding: 1rem; } }
"""
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DEPTH_MAX = 6  # nesting of fields shown


def page_of(document: dict[str, Any]) -> str:
    info = document["info"]
    sections, links = [], []
    for tag in document["tags"]:
        groups = [group for group in _groups(document) if group[0][2]["tags"] == [tag["name"]]]
        sections.append(f'<h2 id="{escape(tag["name"])}">{escape(tag["name"])}</h2>{_prose(tag["description"])}')
        sections += [_section(document, group) for group in groups]
        items = "".join(f'<li><a href="#{escape(g[0][2]["operationId"])}">{_call(*g[0][:2])}</a></li>' for g in groups)
        links.append(f'<strong><a href="#{escape(tag["name"])}">{escape(tag["name"])}</a></strong><ul>{items}</ul>')
    title = escape(info["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<nav>{''.join(links)}</nav><main><h1>{title} <small>{escape(info['version'])}</small></h1>"
        f"{_prose(info['description'])}<p>For programs, the same is in <code>/openapi.json</code>. In the"
        " commands, <code>$API</code> is the address of this API and <code>$KEY</code> is a key.</p>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _groups(document: dict[str, Any]) -> list[list[tuple[str, str, dict[str, Any]]]]:
    """Per operation, (method, path, operation): its path first, then the literal roots."""
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            row = re.sub(r"\.root\d*$", "", operation["operationId"])
            groups.setdefault(row, []).append((method.upper(), path, operation))
    return [sorted(group, key=lambda found: len(found[2]["operationId"])) for group in groups.values()]


def _section(document: dict[str, Any], group: list[tuple[str, str, dict[str, Any]]]) -> str:
    method, path, operation = group[0]
    parts = [
        f'<section><h3 id="{escape(operation["operationId"])}">{escape(operation["summary"])}</h3>',
        f"<p>{_call(method, path)}</p>",
        "".join(f"<p>also {_call(m, p)}</p>" for m, p, _ in group[1:]),
        _prose(operation["description"]),
        f"<pre>{escape(_curl(method, path, operation))}</pre>",
    ]
    if parameters := operation.get("parameters"):
        parts.append(_table([_field(document, p["name"], p, p["schema"], p["required"]) for p in parameters]))
    if body := operation.get("requestBody"):
        fields = _fields(document, body["content"]["application/json"]["schema"])
        parts.append(f"<h4>Body</h4>{_table(list(fields))}")
    for status, answer in operation["responses"].items():
        parts.append(_answer(document, status, answer))
    return "".join(parts) + "</section>"


def _answer(document: dict[str, Any], status: str, answer: dict[str, Any]) -> str:
    is_success = status == "200"
    shown = []
    for content_type, content in answer.get("content", {}).items():
        shown.append(f"<p><code>{escape(content_type)}</code></p>")
        if "example" in content:
            shown.append(f"<pre>{escape(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>")
        if is_success or "example" not in content:
            shown.append(_table(list(_fields(document, content["schema"]))))
    headers = "".join(f"<li><code>{escape(name)}</code></li>" for name in answer.get("headers", {}))
    head = f"<code>{escape(status)}</code> {escape(answer['description'])}"
    return (
        f"<details{' open' if is_success else ''}><summary>{head}</summary>{''.join(shown)}"
        f"{f'<p>Headers:</p><ul>{headers}</ul>' if headers else ''}</details>"
    )


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    query = {}
    for parameter in operation.get("parameters", ()):
        example = str(parameter.get("example", ""))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(example, safe="") or f"${parameter['name']}")
        elif example:
            query[parameter["name"]] = example
    words = [f'curl -s "$API{path}{"?" + urlencode(query, safe=":") if query else ""}"']
    if operation["security"]:
        words.append('-H "Authorization: Bearer $KEY"')
    if body := operation.get("requestBody"):
        words.append(
            f"-d {shlex.quote(json.dumps(body['content']['application/json']['example'], ensure_ascii=False))}"
        )
    return " \\\n  ".join(words)


def _fields(
    document: dict[str, Any], schema: dict[str, Any], above: str = "", depth: int = 0
) -> Iterator[tuple[str, str, str]]:
    """Rows of a table: the fields of an object and of the objects in it."""
    schema = _resolved(document, schema)
    for choice in schema.get("anyOf", ()):
        yield from _fields(document, choice, above, depth)
    if schema.get("type") == "array":
        yield from _fields(document, schema.get("items", {}), above + "[]", depth)
    if isinstance(named := schema.get("additionalProperties"), dict):
        yield from _fields(document, named, f"{above}.*".lstrip("."), depth + 1)
    for name, field in schema.get("properties", {}).items():
        full = f"{above}.{name}".lstrip(".")
        yield _field(document, full, field, field, name in schema.get("required", ()))
        if depth < _DEPTH_MAX:
            yield from _fields(document, field, full, depth + 1)


def _field(
    document: dict[str, Any], name: str, said: dict[str, Any], schema: dict[str, Any], required: bool
) -> tuple[str, str, str]:
    description = said.get("description") or _resolved(document, schema).get("description", "")
    kind = _kind(document, schema)
    if schema.get("default") not in (None, ""):  # those mean that it may be absent
        kind += f"; default {json.dumps(schema['default'])}"
    mark = ' <span class="required">required</span>' if required else ""
    return f"<code>{escape(name)}</code>{mark}", escape(kind), _inline(description)


def _kind(document: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a value is, in words."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        choices = [choice for choice in schema["anyOf"] if "" not in choice.get("enum", ())]  # '' means absent
        return " or ".join(dict.fromkeys(_kind(document, choice) for choice in choices))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"array of {_kind(document, schema.get('items', {}))}"
    if "format" in schema:
        return f"{kind} ({schema['format']})"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        return f"{kind}, {low} to {high}" if high is not None else f"{kind}, {low} or more"
    if "maxLength" in schema:
        return f"{kind}, at most {schema['maxLength']} characters"
    return kind


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _table(rows: list[tuple[str, str, str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = "<thead><tr><th>Name</th><th>Value</th><th>Meaning</th></tr></thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>" if rows else ""


def _call(method: str, path: str) -> str:
    return f'<code><span class="method {method.lower()}">{method}</span> {escape(path)}</code>'


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part)


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
