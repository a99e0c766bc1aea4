"""Errors of what no document prescribes: problem details (RFC 9457)."""

from __future__ import annotations

import msgspec

from .failure import Failure, phrase_of
from .operation import Dialect

__all__ = ["Problem", "problem_dialect"]


class Problem(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The type is `about:blank`, which is what its absence means. `action`: what the client can do."""

    title: str
    status: int
    detail: str
    action: str = ""


def problem_dialect(name: str) -> Dialect:
    return Dialect(name=name, error=Problem, says=_says, content_type="application/problem+json")


def _says(failure: Failure) -> Problem:
    return Problem(
        title=phrase_of(failure.status), status=failure.status, detail=failure.message, action=failure.action
    )
