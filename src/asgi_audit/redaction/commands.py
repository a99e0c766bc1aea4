"""The grammar of commands: `curl -u mira:x`, `docker login -p x`, `echo x | passwd --stdin`.

Which argument is a secret depends on the command. All knowledge is in commands.toml; this module matches a row where
the scan found the word of a command, and finds a secret before a pipe.
"""

from __future__ import annotations

import re

from .tables import Command

__all__ = ["commanded", "piped"]

_PORT = b"0123456789:."
# What an `echo` writes into the command behind the pipe; a name before a colon is a user.
_ECHO = re.compile(
    rb"(?:echo|printf|Write-Output)[ \t]{1,3}(?:-[a-zA-Z]{1,3}[ \t]{1,3})?[\"']?(?:[A-Za-z][\w.@-]{0,40}:)?"
    rb"([^\"'|\n$]{4,200}?)(?:\\n)?[\"']?[ \t]{0,3}\|[^|\n]{0,100}\Z"
)


def commanded(command: Command, text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """The span of the secret in the line of this command, whose word is at `start` to `end`; None without one."""
    m = command.rest(text, end - text[start:end].endswith(b" "))
    if m is None or (command.plain and not m["secret"].strip(_PORT)):
        return None
    return m.span("secret")


def piped(text: bytes, start: int) -> tuple[int, int] | None:
    """The span of what is written into the command at `start`, which takes a secret from its input; None."""
    line = max(0, start - 300, text.rfind(b"\n", max(0, start - 300), start) + 1)
    before = text[line:start]
    at = max(before.find(b"echo "), before.find(b"printf "), before.find(b"Write-Output "))
    if at < 0 or b"|" not in before:
        return None
    m = _ECHO.match(before, at)
    return None if m is None else (line + m.start(1), line + m.end(1))
