"""Errors of operations without a given document: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from .failure import Failure, phrase_of
from .models import Model
from .operation import Dialect

__all__ = ["Problem", "problem_dialect"]


class Problem(Model):
    """Problem details (RFC 9457). `type` is absent, which means `about:blank`."""

    title: str = Field(description="Name of the status, such as `Bad Request`.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What is wrong.")
    action: str = Field("", description="What the client can do.")


def problem_dialect(name: str, about: str = "", field_names: Mapping[str, str] | None = None) -> Dialect:
    return Dialect(
        name=name,
        error=Problem,
        error_body=_error_body,
        about=about,
        field_names=field_names or {},
        content_type="application/problem+json",
    )


def _error_body(failure: Failure) -> Problem:
    return Problem(
        title=phrase_of(failure.status), status=failure.status, detail=failure.message, action=failure.action
    )
