"""The words of the second full-text column: one for each value that a query may ask for."""

from __future__ import annotations

from ...record.codec import Decoded
from ..query import prefixes_of
from .schema import stream_token, token

__all__ = ["Tokens"]

_CACHED_MAX = 50_000  # names; a full cache starts anew
_USUAL_MAX = 20_000  # of each part, 300 bytes each


class Tokens:
    """Remembered by value: hashing all of a record's costs more than inserting them. In three parts that repeat each by
    itself: whose records they are, how they ended, what was done. `version` is that of the day file."""

    def __init__(self, version: int) -> None:
        self._is_first = version == 1
        self._usual: dict[tuple[object, ...], str] = {}
        self._name: dict[tuple[str, str], str] = {}

    def of(self, d: Decoded) -> str:
        usual = self._usual.get
        whose = (d.account, d.service, d.instance)
        ended = (d.method, d.status, d.level, d.region, d.outcome)
        done = (d.operation, d.route)
        # A request id is new with every record: remembering it would only fill the cache. So is a trace.
        text = (
            f"{usual(whose) or self._keep(whose, self._whose(d))} {usual(ended) or self._keep(ended, self._ended(d))} "
            f"{usual(done) or self._keep(done, self._done(d))} {token('q', d.request_id)}"
        )
        if self._is_first:
            return f"{text} {self._of('p', d.principal)}" if d.principal else text
        text = f"{text} {self._of('p', d.principal)}"
        if d.client:
            text = f"{text} {self._of('h', d.client)}"
        return f"{text} {token('z', d.trace_id)}" if d.trace_id else text

    def _whose(self, d: Decoded) -> list[str]:
        of = self._of
        stream = stream_token(d.account, d.service, d.instance)
        return [of("a", d.account), of("s", d.service), of("i", d.instance), stream]

    def _ended(self, d: Decoded) -> list[str]:
        of = self._of
        found = [of("m", d.method), of("c", str(d.status)), of("l", d.level), of("r", d.region)]
        if not self._is_first:
            return [*found, of("u", d.outcome)]
        return [*found, of("f", "1")] if d.failure else found

    def _done(self, d: Decoded) -> list[str]:
        of = self._of
        found = [of("o", d.operation)]
        if self._is_first or not d.route:
            return found
        return [*found, of("w", d.route), *(of("x", prefix) for prefix in prefixes_of(d.route))]

    def _keep(self, of: tuple[object, ...], words: list[str]) -> str:
        if len(self._usual) >= 3 * _USUAL_MAX:
            self._usual.clear()
        text = self._usual[of] = " ".join(words)
        return text

    def _of(self, kind: str, value: str) -> str:
        found = self._name.get((kind, value))
        if found is None:
            if len(self._name) >= _CACHED_MAX:
                self._name.clear()
            found = self._name[kind, value] = token(kind, value)
        return found
