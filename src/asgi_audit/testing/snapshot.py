"""Copies by which two runs of an application can be compared: values as they were at the time and, for objects that
frameworks make for each request (exit stacks, requests, users, routes), their type and contents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["SCOPE_KEY", "plain_text", "read_headers", "snapshot"]

SCOPE_KEY = "asgi_audit"  # what the middleware itself puts into a scope, and frameworks into copies of it
_PLAIN = frozenset((type(None), bool, int, str, bytes))
_DEPTH_MAX = 20
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b")


class _Kind(NamedTuple):
    """An object of this type, with its attributes if they can be read without side effects."""

    type: str
    holds: Any = None

    def __repr__(self) -> str:
        return f"<{self.type}>" if self.holds is None else f"<{self.type} {self.holds!r}>"


def snapshot(value: Any) -> Any:
    """A copy of `value` that does not change with it, and equals the copy of another run. Iterators are not read."""
    return _snapshot(value, ())


def _snapshot(value: Any, inside: tuple[int, ...]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return _Kind("float", repr(value))  # NaN is not equal to itself
    name = f"{kind.__module__}.{kind.__qualname__}"
    if id(value) in inside or len(inside) == _DEPTH_MAX:
        return _Kind(name, "…")
    inside = (*inside, id(value))
    if kind is list:
        return [_snapshot(item, inside) for item in value]
    if kind is tuple:
        return tuple(_snapshot(item, inside) for item in value)
    if kind is dict:
        return {_key(key): _snapshot(item, inside) for key, item in value.items() if key != SCOPE_KEY}
    if kind in (set, frozenset):
        return _Kind(name, sorted(repr(_snapshot(item, inside)) for item in value))
    if kind in (bytearray, memoryview):
        return _Kind(name, bytes(value))
    if isinstance(value, str):
        return _Kind(name, str.__str__(value))
    if isinstance(value, tuple):  # named
        return _Kind(name, [_snapshot(item, inside) for item in tuple.__iter__(value)])
    if isinstance(value, type):
        return _Kind("type", f"{value.__module__}.{value.__qualname__}")
    return _Kind(name)


def _key(key: Any) -> Any:
    return key if type(key) in _PLAIN else repr(_snapshot(key, ()))


def plain_text(text: str) -> str:
    """A text, such as an exception's, without the addresses of objects."""
    return _ADDRESS.sub("0x…", text)


def read_headers(message: Mapping[str, Any]) -> list[Any]:
    """The headers as a server reads them, each once: pairs as tuples. Raises what they raise."""
    return [tuple(pair) for pair in message.get("headers", ())]
