"""Errors of TR50: `success: false` with codes and messages, at the root or under a command's id.

Codes are negative. -90000 is an invalid session: clients recognise the first words of its message and log in again.
-90008 is any other authentication failure. All other codes are the closest ones of errno.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from ....errors import QueryError
from ...failure import Failure
from ...models import Model
from ...operation import Dialect

__all__ = ["TR50", "Error", "error_body", "invalid_session"]

INVALID_SESSION = "Authentication session is invalid: "
_INVALID_SESSION_CODE = -90_000
_ID_MAX = 1_000
_CODES: Mapping[int, int] = {
    400: -22,  # EINVAL
    401: -90_008,
    403: -13,  # EACCES
    404: -2,  # ENOENT
    405: -38,  # ENOSYS
    413: -27,  # EFBIG
    429: -11,  # EAGAIN
    503: -11,
}
_CODE_OTHER = {4: -22, 5: -5}  # EINVAL, EIO


class Error(Model):
    """A failure: of one command, under its id; of the whole request, as the whole response."""

    success: Literal[False] = Field(description="Whether the command succeeded.")
    errorCodes: list[int] = Field(description="Negative codes, such as -90000 for an invalid session.")
    errorMessages: list[str] = Field(description="One message for each code.")


def error_body(failure: Failure) -> Error:
    code = _CODES.get(failure.status, _CODE_OTHER[failure.status // 100])
    if failure.message.startswith(INVALID_SESSION):
        return Error(success=False, errorCodes=[_INVALID_SESSION_CODE], errorMessages=[failure.message])
    message = f"{failure.message}. {failure.action}" if failure.action else failure.message
    return Error(success=False, errorCodes=[code], errorMessages=[message])


def invalid_session(text: str) -> QueryError:
    # A lone half of a surrogate pair cannot be sent.
    id = text[:_ID_MAX].encode("utf-8", "backslashreplace").decode()
    return QueryError(f"{INVALID_SESSION}{id}", kind="unauthorized")


TR50 = Dialect(
    name="tr50",
    about="TR50 commands, several in one request: `usage.api.list`, and the commands for sessions.",
    error=Error,
    error_body=error_body,
    # TR50 reports invalid requests and credentials with status 200.
    sent_status=lambda status: 200 if status in (400, 401, 403) else status,
)
