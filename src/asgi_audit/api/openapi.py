"""Builds the OpenAPI 3.1 document from the table of operations.

Each path of an operation is in it. The paths at the root have operation ids of their own: `usage.start` and
`usage.start.root`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import __version__
from .models import alias_of
from .operation import Operation
from .responses import HEADERS, responses_of
from .routing import names_in
from .schemas import Components, parameters_in

__all__ = ["document"]

_ABOUT = """\
Query audit records: who did what, when, and with which result.

**Authentication.** Send a key as `Authorization: Bearer <key>` or `X-API-Key: <key>`. `asgi-audit keys create` creates
one. A key has a role and a list of accounts. It shows only records of these accounts; other accounts look as if they
did not exist. Where the operator set an issuer, its tokens (JWT) are accepted in place of a key; their claims give role
and accounts.

**Completeness.** Every successful response says how complete the index is. Every request that began between
`Audit-Complete-From` (inclusive) and `Audit-Complete-Until` (exclusive) is indexed, except those counted by
`Audit-Incidents` and `Audit-Open`.

**Errors.** An unknown or repeated parameter or field is refused with its name. A known path with another method returns
405 with `Allow`. 429 and 503 may have `Retry-After`, in seconds.

**Service names.** A service whose name is also a path of this API, such as `logs`, is reached under `/usage/`."""
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key that `asgi-audit keys create` created."},
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the issuer that the operator set (`jwt_issuer`), if any.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in another header."},
    "session": {
        "type": "apiKey",
        "in": "header",
        "name": "sessionId",
        "description": "A TR50 session, for `POST /api` only: see `api.authenticate`.",
    },
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """A new dict each time. Its server URL is relative to the document, so it is right under any mount path."""
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for number, path in enumerate((operation.path, *operation.literal_roots)):
            item = paths.setdefault(_shown(operation, path), {})
            item[operation.method.lower()] = _operation(operation, number, operations, components)
    # Operations without a key are for machines, and come last.
    by_use = sorted(operations, key=lambda operation: not operation.roles)
    dialects = {operation.dialect.name: operation.dialect for operation in by_use}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asgi-audit",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "tags": [{"name": name, "description": dialect.about} for name, dialect in dialects.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.schemas.items())),
            "headers": HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


def _operation(
    operation: Operation, number: int, operations: Sequence[Operation], components: Components
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _id(operation, number),
        "tags": [operation.dialect.name],
        "summary": operation.summary,
        "description": f"{operation.description} {_needed(operation)}".strip(),
        "security": _security(operation),
    }
    if parameters := _parameters(operation):
        found["parameters"] = parameters
    if operation.request is not None:
        schema = components.reference(operation.dialect.name, operation.request, is_sent=False)
        components.narrow(schema, operation.narrowed)
        content = {"schema": schema, "example": operation.example.body}
        is_needed = operation.credentials_in_body or any(
            f.is_required() for f in operation.request.model_fields.values()
        )
        found["requestBody"] = {"required": is_needed, "content": {"application/json": content}}
    found["responses"] = responses_of(operation, components)
    links = {
        following.id: _link(operation, following, number)
        for following in operations
        if following.link is not None and following.link.operation == operation.id and following.link.path_fields
    }
    if links:
        found["responses"]["200"]["links"] = links
    return found


def _needed(operation: Operation) -> str:
    if operation.signed:
        return "Needs no key: the URL is signed. Another response contains it."
    return f"Needs a key with the role {' or '.join(sorted(operation.roles))}." if operation.roles else "Needs no key."


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if not operation.roles:
        return []
    found: list[dict[str, list[str]]] = [{"bearer": []}, {"token": []}, {"apiKey": []}]
    if operation.credentials_in_body:
        found += [{"session": []}, {}]  # {}: credentials in the body
    return found


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [*parameters_in(operation.path_values, "path"), *parameters_in(operation.parameters, "query")]
    path = {alias_of(operation.path_values, name): value for name, value in operation.example.path.items()}
    for parameter in found:
        parameter["schema"].update(operation.narrowed.get(parameter["name"], {}))
        example = {**path, **operation.example.query}.get(parameter["name"])
        if example is not None:
            parameter["example"] = int(example) if parameter["schema"].get("type") == "integer" else example
    return found


def _link(operation: Operation, following: Operation, number: int) -> dict[str, Any]:
    """An OpenAPI link from a response to the operation that continues with it."""
    assert operation.answer is not None
    assert following.link is not None
    parameters = {
        alias_of(operation.path_values, name): f"$request.path.{alias_of(operation.path_values, name)}"
        for name in sorted(names_in(operation.path) & names_in(following.path))
    }
    schema = operation.answer.model_json_schema()
    for name, field in following.link.path_fields.items():
        parameters[alias_of(following.path_values, name)] = f"$response.body#{_pointer(schema, schema, field)}"
    keys = "a key for the same accounts" if following.link.is_sealed else "every key that may read the record"
    return {"operationId": _id(following, number), "parameters": parameters, "description": f"Works with {keys}."}


def _pointer(node: dict[str, Any], root: dict[str, Any], field: str) -> str:
    """JSON pointer to the first field with this name; in an array, in its first item. '' when there is none."""
    if "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    properties = node.get("properties", {})
    if field in properties:
        return f"/{field}"
    for choice in node.get("anyOf", ()):
        if found := _pointer(choice, root, field):
            return found
    steps = [*properties.items(), *([("0", node["items"])] if "items" in node else [])]
    return next((f"/{step}{found}" for step, inner in steps if (found := _pointer(inner, root, field))), "")


def _id(operation: Operation, number: int) -> str:
    """`number`: 0 for the row's path, then its literal roots."""
    return operation.id + ("" if number == 0 else ".root" if number == 1 else f".root{number}")


def _shown(operation: Operation, path: str) -> str:
    """The path with the names that clients see."""
    for name in names_in(path):
        path = path.replace(f"{{{name}}}", f"{{{alias_of(operation.path_values, name)}}}")
    return path
