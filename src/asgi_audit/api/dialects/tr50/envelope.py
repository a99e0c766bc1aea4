"""The envelope of TR50: one JSON object of command ids to commands, and the places where a session can be.

    {"auth": {"sessionId": "…"}, "1": {"command": "usage.api.list", "params": {"last": "24h"}}}

The envelope's own names (`command`, `params`, `sessionId`, `auth`) may be in any case; ids are chosen by the client and
returned unchanged. `auth` may be a command itself: `api.authenticate`. Null and '' count as absent.

Nothing here raises. An error of one command is kept in the command, an error of the whole in the envelope, because a
client gets them only after its credentials were checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ....errors import QueryError
from ...params import shown, shown_name

__all__ = ["COMMANDS_MAX", "Command", "Envelope", "envelope_of"]

COMMANDS_MAX = 20
_ACCEPTED = "an object with command and params"


@dataclass(frozen=True, kw_only=True)
class Command:
    """`session`: the one in the command itself, or ''. `is_auth`: the command has the reserved id."""

    id: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    is_auth: bool = False
    problem: QueryError | None = None


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """`sessions`: those of `auth` and of the root, the nearer one first. `problem`: of the whole, which then is not
    executed."""

    commands: tuple[Command, ...] = ()
    sessions: tuple[str, ...] = ()
    problem: QueryError | None = None


def envelope_of(fields: Mapping[str, Any]) -> Envelope:
    commands: list[Command] = []
    of_auth = of_root = ""
    spelled: dict[str, str] = {}  # the envelope's own names, as they are spelled
    problem = None
    for name, value in fields.items():
        folded = name.lower()
        if folded in ("auth", "sessionid") and spelled.setdefault(folded, name) != name:
            problem = QueryError(f"{name}: it is given more than once, as {spelled[folded]} and {name}")
        if folded == "sessionid" and (value is None or isinstance(value, str)):
            of_root = value or of_root
        elif folded == "auth" and (value is None or _own(value, "command") is None):
            found = _own(value, "sessionid")
            of_auth = found if isinstance(found, str) and found else of_auth
        else:
            commands.append(_command(name, value, is_auth=folded == "auth"))
    if len(commands) > COMMANDS_MAX:
        problem = QueryError(
            f"body: it has {len(commands)} commands; accepted: at most {COMMANDS_MAX}",
            hint="Send them in several requests.",
        )
    elif not commands:
        problem = QueryError(f"body: it has no command; accepted: an id for each command, and under it {_ACCEPTED}")
    return Envelope(
        commands=tuple(commands[:COMMANDS_MAX]),
        sessions=tuple(session for session in (of_auth, of_root) if session),
        problem=problem,
    )


def _command(id: str, value: Any, *, is_auth: bool) -> Command:
    if not isinstance(value, dict):
        wrong = QueryError(f"{shown_name(id)}: it is {shown(value)}; accepted: {_ACCEPTED}")
        return Command(id=id, name="", is_auth=is_auth, problem=wrong)
    spelled: dict[str, str] = {}
    problem: QueryError | None = None
    for name in value:
        folded = name.lower()
        if folded in spelled and folded in ("command", "params", "sessionid"):
            problem = QueryError(f"{folded}: it is given more than once, as {spelled[folded]} and {name}")
        spelled[folded] = name
    name, params, session = (_own(value, part) for part in ("command", "params", "sessionid"))
    params = None if params == "" else params
    if not isinstance(name, str) or not name:
        problem = problem or QueryError(f"command: it is {shown(name)}; accepted: the name of a command")
    if params is not None and not isinstance(params, dict):
        problem = problem or QueryError(f"params: it is {shown(params)}; accepted: an object")
    if session is not None and not isinstance(session, str):
        problem = problem or QueryError(f"sessionId: it is {shown(session)}; accepted: a string")
    return Command(
        id=id,
        name=name if isinstance(name, str) else "",
        params=params if isinstance(params, dict) else {},
        session=session if isinstance(session, str) else "",
        is_auth=is_auth,
        problem=problem,
    )


def _own(value: Any, name: str) -> Any:
    """The value under this name, in any spelling, in an object of the envelope; None when it is absent."""
    if not isinstance(value, dict):
        return None
    return next((found for spelled, found in value.items() if spelled.lower() == name), None)
