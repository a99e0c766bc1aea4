"""One row of the table of operations, and what all rows of one dialect share.

Everything that differs by route stands in its row, and is done for the row by `routing`: who may call, whether the
call is itself recorded, in whose words an error is said. The suite `tests/contract/test_operations.py` asks each row
for all of it, by the row's own example: a dialect that is put into the table is tested.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..query.model import Grant
from .failure import Failure

__all__ = ["NO_STORE", "Dialect", "Example", "Follows", "Handler", "Operation", "json_response"]

NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

Handler = Callable[[Request, Grant], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """`name`: of its tokens, which open in no other dialect, and in metrics. `error`: the model of its error body,
    which `says` makes for any status from 400 to 599. `words`: our names of fields (`QueryError`'s) to those that its
    clients know; what is missing there is named as we name it. `sends`: the status that goes out for a failure's, where
    the documents want another one. `sentences`: the documents' own message of a status, whatever went wrong."""

    name: str
    error: type[msgspec.Struct]
    says: Callable[[Failure], msgspec.Struct]
    words: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    sends: Callable[[int], int] = lambda status: status
    sentences: Mapping[int, str] = field(default_factory=dict)

    def fail(self, failure: Failure) -> Response:
        if failure.status in self.sentences:
            failure = failure._replace(message=self.sentences[failure.status], action="")
        body = msgspec.json.encode(self.says(failure))
        return json_response(body, self.sends(failure.status), failure.headers, self.content_type)


class Example(NamedTuple):
    """A request that is answered with success when there are records of 2024-01-01 (UTC). `path`: values of the names
    in the path. `body`: as JSON, None for none."""

    path: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: Any = None


class Follows(NamedTuple):
    """Values of the path that another operation's answer gives, as OpenAPI's links. `takes`: name in the path to the
    field of that answer."""

    operation: str
    takes: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`id`: unique, 'dialect.verb'. `path`: literal segments and `{names}`. `literal_roots`: the paths of the documents
    that stand at the root; every row's `path` goes before them. `roles`: who may call; empty: everybody, without a key.
    `is_recorded`: whether a call of it becomes a record of service `logs`; what is asked again and again for one
    question does not; a handler may leave out (`leave_out`) a call that succeeds and goes on with a recorded one.
    `request`, `answer`: the models of the bodies, None where there is none (yet)."""

    id: str
    method: Literal["GET", "POST"]
    path: str
    literal_roots: tuple[str, ...] = ()
    dialect: Dialect
    roles: frozenset[str]
    is_recorded: bool
    handle: Handler
    request: type | None = None
    answer: type | None = None
    example: Example = field(default_factory=Example)
    follows: Follows | None = None


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Response:
    """JSON that no cache keeps and no browser takes for something else."""
    return Response(body, status, {**NO_STORE, **(headers or {})}, content_type)
