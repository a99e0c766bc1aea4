"""The words in the full-text column `tokens`: one for each value that a query may filter by."""

from __future__ import annotations

from ...record.codec import Decoded
from ..query import prefixes_of
from .schema import stream_token, token

__all__ = ["Tokens"]

_CACHED_MAX = 50_000  # names; a full cache is cleared


class Tokens:
    """Makes the tokens for day files of one version, in three parts. `whose` and `shape` repeat, and callers cache
    them; hashed names are cached here, because hashing all of them costs more than inserting them."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._name: dict[tuple[str, str], str] = {}
        self._who: dict[tuple[str, str], str] = {}

    def of(self, d: Decoded) -> str:
        return f"{self.whose(d)} {self.shape(d)} {self.own(d)}"

    def whose(self, d: Decoded) -> str:
        """The tokens of account, service and instance."""
        of = self._of
        stream = stream_token(d.account, d.service, d.instance, self._version)
        return f"{of('a', d.account)} {of('s', d.service)} {of('i', d.instance)} {stream}"

    def shape(self, d: Decoded) -> str:
        """The tokens of the operation and its outcome."""
        of = self._of
        found = [of("m", d.method), of("c", str(d.status)), of("l", d.level), of("r", d.region), of("o", d.operation)]
        if self._version == 1:
            return " ".join([*found, of("f", "1")] if d.failure else found)
        found.append(of("u", d.outcome))
        if d.route:
            found.append(of("w", d.route))
            # The whole route has its token already, unless its spelling differs from that of a prefix.
            found += [of("x", prefix) for prefix in prefixes_of(d.route) if prefix != d.route]
        return " ".join(found)

    def own(self, d: Decoded) -> str:
        """The tokens of all other values."""
        # Request ids and trace ids are new with every record: caching them would only fill the cache.
        text = token("q", d.request_id, self._version)
        who = self._who.get((d.principal, d.client))
        if who is None:
            who = self._whom(d.principal, d.client)
        text = f"{text}{who}"
        return f"{text} {token('z', d.trace_id)}" if d.trace_id and self._version > 1 else text

    def _whom(self, principal: str, client: str) -> str:
        """The tokens of principal and client, each after a space."""
        if self._version == 1:
            found = f" {token('p', principal, 1)}" if principal else ""
        else:
            found = f" {token('p', principal)}"
            if client:
                found = f"{found} {token('h', client)}"
        if len(self._who) >= _CACHED_MAX:
            self._who.clear()
        self._who[principal, client] = found
        return found

    def _of(self, kind: str, value: str) -> str:
        found = self._name.get((kind, value))
        if found is None:
            if len(self._name) >= _CACHED_MAX:
                self._name.clear()
            found = self._name[kind, value] = token(kind, value, self._version)
        return found
