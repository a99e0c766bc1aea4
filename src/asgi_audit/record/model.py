"""A record as a pydantic model, for consumers of the topic: `from asgi_audit import AuditRecord` (extra `models`).

    async for message in consumer:
        record = AuditRecord.from_message(message.value)
        if record is not None:
            print(record.metadata.request_id, record.response.status_code)

It is the JSON Schema of `asgi-audit schema` (`record.schema`), which a test compares and from which its descriptions
come. Attributes are in Python's spelling, aliases are the record's names: `model_dump_json(by_alias=True,
exclude_unset=True)` gives the same JSON. The audited application never imports this.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
    from pydantic.alias_generators import to_camel
except ImportError as e:
    raise ImportError("asgi_audit.AuditRecord needs pydantic: pip install 'asgi-audit[models]'") from e

from .line import TIME_END
from .schema import json_schema

__all__ = ["AuditRecord", "Metadata", "RecordPart", "RequestPart", "ResponsePart"]

Strings = dict[str, str | Annotated[list[str], Field(min_length=2)]]
"""By name; a list when repeated."""
_Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_OTHERS = (b'{"statement":', b'{"loss":', b'{"intent":')
"""The first bytes of messages in the topic that are not records."""


@cache
def _described() -> dict[str, Any]:
    return json_schema()


def _describe(schema: dict[str, Any], model: type[RecordPart]) -> None:
    """Descriptions come from `record.schema`. Fields that may be missing are never null."""
    said = _described()
    for name in model.where:
        said = said["properties"][name]
    schema.setdefault("description", said["description"])
    for name, field in schema["properties"].items():
        types = [known for known in field.pop("anyOf", ()) if known != {"type": "null"}]
        for known in types:  # exactly one: the only alternatives here are with null
            field.update(known)
        field.pop("default", None)
        field.pop("title", None)
        if description := said["properties"].get(name, {}).get("description"):
            field["description"] = description


class RecordPart(BaseModel):
    """`where`: the names that lead to it in a record."""

    where: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        json_schema_extra=_describe,
    )


class OpenPart(RecordPart):
    """A part of the context: unknown keys are kept in `model_extra`. A field that is None is missing in the record."""

    model_config = ConfigDict(extra="allow")

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("it is null; unknown values must be absent")
        return value


class Metadata(RecordPart):
    where = ("metadata",)

    id: str = Field(min_length=1)
    request_id: str
    version: str = Field(pattern=r"^1\.")
    region: Literal["global", "eu"]
    scope: Literal["management", "service"]


class Auth(RecordPart):
    where = ("request", "auth")

    method: str
    public_key: str


class RequestPart(RecordPart):
    where = ("request",)

    auth: Auth
    method: str
    path: str
    original_url: str
    hostname: str
    headers: Strings
    query: Strings
    body: Any


class ResponsePart(RecordPart):
    where = ("response",)

    status_code: int = Field(ge=100, le=999)
    headers: Strings
    body: Any


class Raised(OpenPart):
    where = ("context", "error")

    type: str
    fatal: bool = False


class RequestBodyFacts(OpenPart):
    where = ("context", "requestBody")

    bytes: int = Field(ge=0)
    content_type: str | None = None
    captured: Literal["full", "truncated", "omitted", "empty", "unread", "undecodable", "pressure"]


class ResponseBodyFacts(RequestBodyFacts):
    where = ("context", "responseBody")


class Organisation(OpenPart):
    where = ("context", "org")

    id: str | None = None
    key: str | None = None


class Capture(OpenPart):
    where = ("context", "capture")

    process: str = Field(json_schema_extra={"format": "uuid"})
    sequence: int = Field(ge=1, le=(1 << 63) - 1)
    salt: _Hex32 | None = None


class Context(OpenPart):
    where = ("context",)

    duration_ns: Annotated[int, Field(ge=0)] | None = None
    host: str | None = None
    principal: str | None = None
    client: str | None = None
    route: str | None = None
    operation: str | None = None
    trace_id: _Hex32 | None = None
    span_id: _Hex16 | None = None
    protocol: str | None = None
    outcome: Literal["completed", "failed", "disconnected", "cancelled", "interrupted"] | None = None
    error: Raised | None = None
    request_body: RequestBodyFacts | None = None
    response_body: ResponseBodyFacts | None = None
    org: Organisation | None = None
    annotations: dict[str, Any] | None = None
    redacted: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=64)] | None = None
    truncated: list[str] | None = None
    level: Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"] | None = None
    message: str | None = None
    capture: Capture | None = None


class AuditRecord(RecordPart):
    model_config = ConfigDict(alias_generator=None)

    account_id: str
    service: str = Field(min_length=1)
    instance_id: str = Field(min_length=1)
    metadata: Metadata
    request: RequestPart
    response: ResponsePart
    timestamp: int = Field(ge=0, lt=TIME_END)
    context: Context = Context()

    @classmethod
    def from_message(cls, value: bytes | None) -> Self | None:
        """The record in the value of a message of the topic. None for other messages: a statement or a loss entry of a
        process, a tombstone. Raises pydantic's ValidationError, a ValueError, for any other value that is not a record.
        Numbers of a body are exact."""
        if value is None or value.startswith(_OTHERS):
            return None
        try:
            return cls.model_validate_json(value)
        except ValidationError:
            # pydantic's reader refuses what is nested deeper than 200, and lone surrogates, which bodies may hold.
            try:
                read = json.loads(value)
            except (ValueError, RecursionError):
                read = None
            if read is None:
                raise
            return cls.model_validate(read)
