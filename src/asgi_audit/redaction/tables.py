"""The tables, read once: names.toml, forms.toml and commands.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

__all__ = ["COMMANDS", "FORMS", "REDACTED", "Command", "Form", "rows", "words"]

REDACTED = "[REDACTED]"


class Form(NamedTuple):
    """A row of forms.toml, which explains the fields."""

    name: str
    triggers: tuple[bytes, ...]
    expression: bytes
    source: str
    example: str
    back: bytes = b""
    until: bytes = b""
    stop: bytes = b""
    check: str = ""
    edge: bool = True
    near: bytes = b""
    match: Callable[[bytes, int], re.Match[bytes] | None] | None = None  # of an operator's form
    longest: int = 0  # bytes of an operator's form


class Command(NamedTuple):
    """A row of commands.toml, which explains the fields."""

    words: tuple[bytes, ...]
    rest: Callable[..., re.Match[bytes] | None]
    inside: bool
    plain: bool
    source: str
    example: str


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / name).read_text("utf-8"))


_NAMES = _load("names.toml")


def rows(table: str) -> list[dict[str, str]]:
    """The rows of a list of names.toml that have an example and a source."""
    return list(_NAMES[table])


def words(table: str) -> tuple[str, ...]:
    """The words of a list of names.toml."""
    return tuple(row["word"] if isinstance(row, dict) else row for row in _NAMES[table])


def _form(row: dict[str, Any]) -> Form:
    texts = {key: row[key].encode() for key in ("back", "until", "stop", "near") if key in row}
    return Form(
        row["name"], tuple(t.encode() for t in row["triggers"]), row["expression"].encode(), row["source"],
        "".join(row["example"]), check=row.get("check", ""), edge=row.get("edge", True), **texts,
    )  # fmt: skip


FORMS = tuple(map(_form, _load("forms.toml")["form"]))


def _command(row: dict[str, Any]) -> Command:
    return Command(
        tuple(word.encode() for word in row["words"]), re.compile(row["rest"].encode()).match,
        row.get("inside", False),
        row.get("plain", False), row["source"], row["example"],
    )  # fmt: skip


COMMANDS = tuple(map(_command, _load("commands.toml")["command"]))
