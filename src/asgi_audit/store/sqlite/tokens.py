"""The words of the second full-text column: one for each value that a query may ask for."""

from __future__ import annotations

from ...record.codec import Decoded
from ..query import prefixes_of
from .schema import stream_token, token

__all__ = ["Tokens"]

_CACHED_MAX = 50_000  # names; a full cache starts anew
_USUAL_MAX = 20_000  # 700 bytes each


class Tokens:
    """Remembered by value: hashing all of a record's costs more than inserting them. `version` is that of the day
    file."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._usual: dict[tuple[object, ...], str] = {}
        self._name: dict[tuple[str, str], str] = {}

    def of(self, d: Decoded) -> str:
        # In the order of the usual words' arguments.
        usual = (
            d.account, d.service, d.instance, d.method, d.status, d.level, d.region, d.operation, d.outcome, d.route,
        )  # fmt: skip
        # A request id is new with every record: remembering it would only fill the cache. So is a trace.
        text = f"{self._usual.get(usual) or self._usually(usual, d)} {token('q', d.request_id)}"
        if self._version == 1:
            return f"{text} {self._of('p', d.principal)}" if d.principal else text
        text = f"{text} {self._of('p', d.principal)}"
        if d.client:
            text = f"{text} {self._of('h', d.client)}"
        return f"{text} {token('z', d.trace_id)}" if d.trace_id else text

    def _usually(self, usual: tuple[object, ...], d: Decoded) -> str:
        """Those that many records share."""
        words = [
            self._of("a", d.account), self._of("s", d.service), self._of("i", d.instance),
            stream_token(d.account, d.service, d.instance), self._of("m", d.method), self._of("c", str(d.status)),
            self._of("l", d.level), self._of("r", d.region), self._of("o", d.operation),
        ]  # fmt: skip
        if self._version == 1:
            words += [self._of("f", "1")] if d.failure else []
        else:
            words.append(self._of("u", d.outcome))
            words += [self._of("x", prefix) for prefix in prefixes_of(d.route)]
            words += [self._of("w", d.route)] if d.route else []
        if len(self._usual) >= _USUAL_MAX:
            self._usual.clear()
        text = self._usual[usual] = " ".join(words)
        return text

    def _of(self, kind: str, value: str) -> str:
        found = self._name.get((kind, value))
        if found is None:
            if len(self._name) >= _CACHED_MAX:
                self._name.clear()
            found = self._name[kind, value] = token(kind, value)
        return found
