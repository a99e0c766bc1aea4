"""Base of the models of requests and responses: one definition for checks, refusals and OpenAPI.

A field has our name; its alias is the client's name, which refusals and OpenAPI use. A dialect reads a request with
`read_path`, `read_parameters` and `read_body`. They return the model or raise QueryError for the first wrong field:
`name: it is X; accepted: Y`. Unknown and repeated names are refused first.

pydantic checks and describes. Our own field types are `Checked`: a function, the text of its refusal, and the JSON
Schema; `fields` has the common ones. A plain `str`, `bool`, `Literal[…]`, `list[…]` or model works too, strictly: text
is not a number. Lists in a body need `Field(fail_fast=True)`, so that 20,000 wrong items cost no more than one. All of
this runs in the event loop, in time linear in the length of the input, which `params` limits.

Responses are models too. `answer_bytes` omits fields with their default value. Where a response is joined from stored
bytes, the model only describes it; the contract tests compare it with the bytes that are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema
from starlette.requests import Request

from ..errors import QueryError
from .params import json_object, parameters_of, shown, shown_name

__all__ = [
    "Checked",
    "Model",
    "NoParameters",
    "Refusal",
    "alias_of",
    "answer_bytes",
    "read_body",
    "read_fields",
    "read_parameters",
    "read_path",
]

_PATH_NAMES_MAX = 4  # of a nested field's name


def _show_absent(schema: dict[str, Any], model: type[Model]) -> None:
    if model.absent:
        schema["x-absent"] = list(model.absent)  # `schemas` takes it out again


class Model(BaseModel):
    """A model that refuses unknown names. A subclass may set `extra="ignore"` where a document requires it. `absent`:
    values that count as if the field was absent."""

    absent: ClassVar[tuple[Any, ...]] = ()
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        ser_json_inf_nan="null",
        json_schema_extra=_show_absent,
    )


M = TypeVar("M", bound=Model)


class NoParameters(Model):
    """No parameters."""


class Refusal(ValueError):
    """Raised by a check, in place of a plain ValueError, with a more precise message. `said` follows the name of the
    field and a colon; with `whole` it is the complete message, in which `{name}` is replaced by the name. `hint`: what
    the client can do."""

    def __init__(self, said: str, *, hint: str = "", whole: bool = False) -> None:
        super().__init__(said)
        self.said = said
        self.hint = hint
        self.whole = whole


@dataclass(frozen=True, eq=False)  # `X | None` hashes it
class Checked:
    """The type of a field, as `Annotated[int, Checked(…)]`. `take`: converts the input (text of a URL, JSON of a body)
    or raises ValueError. `accepted`: the end of a refusal, such as "a whole number from 1 to 9". `schema`: JSON
    Schema of the input; it accepts everything that `take` accepts."""

    take: Callable[[Any], Any]
    accepted: str
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.take)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


async def read_body(request: Request, model: type[M]) -> M:
    """The JSON object in the body, whatever its content type says; null counts as absent where the model allows it, and
    so does the whole body of a model without required fields."""
    needed = [alias_of(model, name) for name, field in model.model_fields.items() if field.is_required()]
    accepted = f"a JSON object with {' and '.join(needed)}" if needed else "a JSON object"
    return read_fields(model, await json_object(request, accepted, may_be_absent=not needed), "field")


def read_parameters(request: Request, model: type[M]) -> M:
    """Reads the parameters of the URL; an empty one counts as absent."""
    return read_fields(model, parameters_of(request), "parameter", absent=("",))


def read_path(request: Request, model: type[M]) -> M:
    """Reads the values of the names in the path; the model has a field for each."""
    return read_fields(model, {alias_of(model, name): value for name, value in request.path_params.items()}, "name")


def answer_bytes(answer: Model) -> bytes:
    return answer.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def read_fields(model: type[M], given: Mapping[str, Any], kind: str, *, absent: tuple[Any, ...] = ()) -> M:
    """Checks `given`, by the client's names. `kind`: the word for a name in a refusal. `absent`: values that count as
    absent, in addition to the model's own. Raises QueryError."""
    accepted = [alias_of(model, name) for name in model.model_fields]
    if model.model_config.get("extra") == "forbid":
        for name in given:
            if name not in accepted:
                raise QueryError(_unknown(shown_name(name) or '""', kind, accepted))
    skipped = (*absent, *model.absent)
    try:
        return model.model_validate({name: value for name, value in given.items() if value not in skipped})
    except ValidationError as e:
        raise _query_error(model, e) from None


def _query_error(model: type[Model], error: ValidationError) -> QueryError:
    first = error.errors(include_url=False)[0]
    kind, raised = first["type"], first.get("ctx", {}).get("error")
    name = ".".join(shown_name(str(part)) for part in first["loc"][:_PATH_NAMES_MAX])
    if isinstance(raised, Refusal):
        if raised.whole:
            return QueryError(raised.said.replace("{name}", name), hint=raised.hint)
        # A check of the whole model names the fields itself.
        return QueryError(f"{name}: {raised.said}" if name else raised.said, hint=raised.hint)
    if kind == "extra_forbidden":
        inner = _inner(model, first["loc"][:-1])
        return QueryError(_unknown(name, "field", [alias_of(inner, n) for n in inner.model_fields] if inner else []))
    accepted = _accepted_at(model, first["loc"])
    said = "it is missing" if kind == "missing" else f"it is {shown(_plain(first['input']))}"
    return QueryError(f"{name}: {said}; accepted: {accepted}")


def _unknown(name: str, kind: str, accepted: list[str]) -> str:
    return f"{name}: there is no such {kind}; accepted: {', '.join(accepted) or 'none'}"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | dict | list) else str(value)


def alias_of(model: type[Model] | None, name: str) -> str:
    """The client's name of a field."""
    field = None if model is None else model.model_fields.get(name)
    return name if field is None else (field.alias or name)


def _accepted_at(model: type[Model], loc: tuple[int | str, ...]) -> str:
    annotation, metadata = _field_at(model, loc)
    return _accepted(annotation, metadata)


def _inner(model: type[Model], loc: tuple[int | str, ...]) -> type[Model] | None:
    annotation, _ = _field_at(model, loc)
    return next((part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, Model)), None)


def _field_at(model: type[Model], loc: tuple[int | str, ...]) -> tuple[Any, list[Any]]:
    """Type and metadata of the field at `loc`, as far as the models define it."""
    annotation: Any = model
    metadata: list[Any] = []
    for part in loc:
        if isinstance(part, int) and (items := _items(annotation)) is not None:
            annotation, metadata = items, []
            continue
        inner = next((p for p in _parts(annotation) if isinstance(p, type) and issubclass(p, Model)), None)
        if inner is None:
            continue
        found = next((f for n, f in inner.model_fields.items() if part in (n, f.alias)), None)
        if found is not None:
            annotation, metadata = found.annotation, found.metadata
    return annotation, metadata


def _items(annotation: Any) -> Any:
    """The item type of an array; None for any other type."""
    return next((get_args(p)[0] for p in _parts(annotation) if get_origin(p) is list), None)


def _parts(annotation: Any) -> list[Any]:
    """The annotation and all types inside it."""
    found = [annotation]
    for argument in get_args(annotation) if get_origin(annotation) is not Literal else ():
        found += _parts(argument)
    return found


def _accepted(annotation: Any, metadata: list[Any]) -> str:
    for known in metadata:
        if isinstance(known, Checked):
            return known.accepted
    for part in _parts(annotation):
        for known in getattr(part, "__metadata__", ()):
            if isinstance(known, Checked):
                return known.accepted
    for part in _parts(annotation):
        if get_origin(part) is Literal:
            return ", ".join(str(value) for value in get_args(part))
        if part in _WORDS:
            return _WORDS[part]
        if get_origin(part) is list:
            return f"an array of {_accepted(_items(part), [])}"
        if get_origin(part) in (tuple, frozenset):
            return "an array"
    return "an object"


_WORDS: dict[Any, str] = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
