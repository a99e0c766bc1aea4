"""One row of the table of operations, and the properties that all rows of a dialect share.

A row defines everything that differs by route, and `routing` applies it: the roles that may call, whether the call is
recorded, the dialect of errors. The suite `tests/contract/test_operations.py` checks all of it for each row, with the
row's example: a dialect in the table is tested automatically.

How to add a dialect (`dialects/logs.py` is a short one, `dialects/executions.py` one with two operations that follow
each other):

1. A file `dialects/NAME.py`. First its models, each a `Model`: names in the path, parameters, body, response, error.
   Field types come from `fields`; the client's name of a field is its alias:
   `start: Instant = Field(alias="startDate", description="…")`. A rule between two fields is a `model_validator` that
   raises `Refusal("name: what is wrong; accepted: …")`.
2. Its `Dialect`: the error model, `error_body` that fills it, and `field_names`, which maps our names of fields to the
   client's.
3. A handler `async (request, grant) -> Response`. It reads with `read_path`, `read_parameters`, `read_body` from
   `models`, makes a `Query`, calls the query service, and returns `json_response(answer_bytes(Answer(…)))` or a
   `PageResponse`, with `audit_headers`.
4. `operations(service)`: one `Operation` per route, with the same models; and a line in `app.operations`.
5. Tests: requests and responses of the document in `tests/contract/`; the suite of the table tests the rest.
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

__all__ = ["NO_STORE", "Dialect", "Example", "Handler", "Operation", "ResponseLink", "json_response"]

NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

Handler = Callable[[Request, Grant], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """`name`: used in metrics and in tokens, which are valid in this dialect only. `about`: its purpose, one sentence.
    `error`: the model of the error body; `error_body` fills it for any status from 400 to 599. `field_names`: maps our
    names of fields (of `QueryError`) to the names that clients know; other names are used unchanged. `sent_status`:
    maps the status of a failure to the status that is sent, where the documents require another one. `fixed_messages`:
    those of the documents, by status."""

    name: str
    error: type[Model]
    error_body: Callable[[Failure], Model]
    about: str = ""
    field_names: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    sent_status: Callable[[int], int] = lambda status: status
    fixed_messages: Mapping[int, str] = field(default_factory=dict)

    def fail(self, failure: Failure) -> Response:
        if failure.status in self.fixed_messages:
            failure = failure._replace(message=self.fixed_messages[failure.status], action="")
        return json_response(
            answer_bytes(self.error_body(failure)), self.sent_status(failure.status), failure.headers, self.content_type
        )


class Example(NamedTuple):
    """A request that succeeds when there are records of 2024-01-01 (UTC). `path`: values of the names in the path.
    `body`: JSON, None for none. `answer`: a possible response for the documentation, JSON; None for none."""

    path: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: Any = None
    answer: Any = None


class ResponseLink(NamedTuple):
    """An OpenAPI link: values of the path come from the response of another operation. `path_fields`: maps the name in
    the path to the field of that response. `url`: the field, or the header, with the whole URL, in place of
    `path_fields`. `is_sealed`: the values are valid only for the accounts of that response; otherwise for every key
    that may read the data."""

    operation: str
    path_fields: Mapping[str, str]
    url: str = ""
    is_sealed: bool = True


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`id`: unique, 'dialect.verb'. `path`: literal segments and `{names}`. `literal_roots`: the paths of the documents
    that stand at the root; every row's `path` goes before them. `roles`: who may call; empty: any client, without a
    key. `is_recorded`: whether a call of it becomes a record of service `logs`; a call that is repeated for one query
    (polls, pages) does not, unless it is refused (any status from 400 on); a handler may leave out (`leave_out`) a call
    that succeeds and continues a recorded one. Rows that need neither a key nor a signed URL are never recorded then.
    `path_values`, `parameters`, `request`, `answer`: the models of the names in the path, of the parameters of the URL,
    and of the bodies; None where there is none. Without `parameters`, a row that needs a key refuses all of them.
    `credentials_in_body`: the handler reads them there, gets a grant that allows nothing, and takes the roles and the
    look-up of keys from `auth.access_of`; it decides whether the record that has begun is kept, see `Keys.refused`.
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
    link: ResponseLink | None = None


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Response:
    """A JSON response that is not cached and not content-sniffed."""
    return Response(body, status, {**NO_STORE, **(headers or {})}, content_type)
