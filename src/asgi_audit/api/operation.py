"""One row of the table of operations, and what all rows of one dialect share.

A row defines everything that differs by route, and `routing` applies it: the roles that may call, whether the call is
recorded, the dialect of errors. The suite `tests/contract/test_operations.py` checks all of it for each row, with the
row's example: a dialect in the table is tested automatically.

How to add a dialect (`dialects/logs.py` is a short one, `dialects/executions.py` one with two operations that follow
each other):

1. A file `dialects/NAME.py`. Its models first, each a `Model`: of the names in the path, the parameters, the body, the
   answer, the error. Field types come from `fields`; a field whose name is the client's has it as its alias:
   `start: Instant = Field(alias="startDate", description="…")`. A rule between two fields is a `model_validator` that
   raises `Refusal("name: what is wrong; accepted: …")`.
2. Its `Dialect`: the error model, `says` that fills it, `words` from our names of `QueryError.field` to the client's.
3. A handler `async (request, grant) -> Response`. It reads with `read_path`, `read_parameters`, `read_body` from
   `models`, makes a `Query`, asks the query service, and returns `json_response(answer_bytes(Answer(…)))` or a
   `PageResponse`, with `audit_headers`.
4. `operations(service)`, one `Operation` a route, with the same models in its row; a line in `app.operations`.
5. Tests: the documents' requests and answers in `tests/contract/`; the table's suite tests the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ..query.model import Grant
from .failure import Failure
from .models import Model, answer_bytes

__all__ = ["NO_STORE", "Dialect", "Example", "Follows", "Handler", "Operation", "json_response"]

NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

Handler = Callable[[Request, Grant], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """`name`: of its tokens, which open in no other dialect, and in metrics. `about`: what it is for, a sentence.
    `error`: the model of its error body, which `says` makes for any status from 400 to 599. `words`: our names of
    fields (`QueryError`'s) to those that its clients know; what is missing there is named as we name it. `sends`: the
    status that goes out for a failure's, where the documents want another one. `sentences`: the documents' own message
    of a status, whatever went wrong."""

    name: str
    error: type[Model]
    says: Callable[[Failure], Model]
    about: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    sends: Callable[[int], int] = lambda status: status
    sentences: Mapping[int, str] = field(default_factory=dict)

    def fail(self, failure: Failure) -> Response:
        if failure.status in self.sentences:
            failure = failure._replace(message=self.sentences[failure.status], action="")
        return json_response(
            answer_bytes(self.says(failure)), self.sends(failure.status), failure.headers, self.content_type
        )


class Example(NamedTuple):
    """A request that is answered with success when there are records of 2024-01-01 (UTC). `path`: values of the names
    in the path. `body`: as JSON, None for none. `answer`: such as it may be, as JSON, to be shown; None for none."""

    path: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: Any = None
    answer: Any = None


class Follows(NamedTuple):
    """Values of the path that another operation's answer gives, as OpenAPI's links. `takes`: name in the path to the
    field of that answer. `url`: the field, or the header, that holds the whole URL in place of them. `is_sealed`: they
    open for the accounts alone that the answer was for; else for whoever may read what they name."""

    operation: str
    takes: Mapping[str, str]
    url: str = ""
    is_sealed: bool = True


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`id`: unique, 'dialect.verb'. `path`: literal segments and `{names}`. `literal_roots`: the paths of the documents
    that stand at the root; every row's `path` goes before them. `roles`: who may call; empty: everybody, without a key.
    `is_recorded`: whether a call of it becomes a record of service `logs`; what is asked again and again for one
    question does not, unless it is refused (any status from 400 on); a handler may leave out (`leave_out`) a call that
    succeeds and goes on with a recorded one. Rows that need neither a key nor a signed URL are never recorded then.
    `path_values`, `parameters`, `request`, `answer`: the models of the names in the path, of the parameters of the URL,
    and of the bodies; None where there is none. Without `parameters`, a row that needs a key refuses all of them.
    `credentials_in_body`: the handler reads them there, gets a grant that allows nothing, and takes `roles` and whoever
    looks up keys from `auth.access_of`; it decides about a record that is begun, see `Keys.refused`.
    `summary`: what it does, a few words; `description`: what a client must know beside the models.

    `failures`: models of failures that have another one than the dialect's. `more_failures`: statuses (400 to 599) that
    it may fail with beside those that follow from its models and roles. `more_answers`: statuses of other successes to
    what they mean; they have the same content. `content_type`: of the answer; text when there is no model.
    `more_content_types`: what else the answer may come as. `headers`: of the answer, those of `responses.HEADERS` that
    not every answer has. `signed`: the parameters of the URL are the key. `narrowed`: what the settings of this server
    accept of a parameter or field, by its name, as JSON Schema beside that of its model."""

    id: str
    method: Literal["GET", "POST"]
    path: str
    literal_roots: tuple[str, ...] = ()
    dialect: Dialect
    roles: frozenset[str]
    is_recorded: bool
    credentials_in_body: bool = False
    handle: Handler
    path_values: type[Model] | None = None
    parameters: type[Model] | None = None
    request: type[Model] | None = None
    answer: type[Model] | None = None
    summary: str = ""
    description: str = ""
    failures: Mapping[int, type[Model]] = field(default_factory=dict)
    more_failures: Collection[int] = ()
    more_answers: Mapping[int, str] = field(default_factory=dict)
    content_type: str = "application/json"
    more_content_types: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    signed: bool = False
    narrowed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    example: Example = field(default_factory=Example)
    follows: Follows | None = None


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Response:
    """A JSON response that is not cached and not content-sniffed."""
    return Response(body, status, {**NO_STORE, **(headers or {})}, content_type)
