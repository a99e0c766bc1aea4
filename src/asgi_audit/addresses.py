"""Addresses of transports and stores: the only parser, and how much of an address a message may show.

| address | means |
|---|---|
| `journal:///relative`, `journal:////absolute` | a directory of journals |
| `sqlite:///relative`, `sqlite:////absolute` | a directory with an index |
| `memory://`, `memory://name` | kept in this process |
| `kafka://host:port[,host:port]/topic` | a topic; `kafkas://` with TLS |

Users paste `kafka://user:password@host/topic`, or `?password=…`, from other configurations. An error message with such
an address would put the password into logs and terminals. So a refused address is shown in full only when no part of it
can be a password, and free text is shown without anything that looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError

__all__ = ["ACCEPTED", "KafkaAddress", "kafka_address", "parse", "scheme_of", "shown_value", "url_path",
           "without_passwords"]  # fmt: skip

_KAFKA = "kafka://host:port[,host:port]/topic, or kafkas:// for TLS"
# Accepted forms by scheme, for messages.
ACCEPTED = {
    "journal": "journal:///relative/path or journal:////absolute/path",
    "sqlite": "sqlite:///relative/path or sqlite:////absolute/path",
    "memory": "memory:// or memory://name",
    "kafka": _KAFKA,
    "kafkas": _KAFKA,
}
# Kafka's own rule for topic names (org.apache.kafka.common.internals.Topic).
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+")
_MEMORY = re.compile(r"memory://[A-Za-z0-9._-]{0,64}")
_DEFAULT_PORT = 9092

_SHOWN_MAX = 200
# Letters, digits, `.-_~`, slashes, commas and brackets; a colon only after the scheme, before a port, and in brackets.
_HARMLESS = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{0,30}:/{2,4})?(?:[A-Za-z0-9._~,/-]|\[[0-9A-Fa-f:.]{0,60}\]|:[0-9]{1,5}(?=[,/]|$))*"
)
_SUSPICIOUS = re.compile(r"[@:?#%=]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:(?=/)")
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,4})[^\n]{0,500}@")
_IN_QUERY = re.compile(r"([?&][^\s=&;?#'\"]{1,100}=)[^\s&;'\"]+")


def shown_value(value: object) -> str:
    """A wrong value in a form that an error may show: its `repr`, with `…` in place of parts that may contain a
    password."""
    if isinstance(value, str):
        if not _SUSPICIOUS.search(value) or (len(value) <= _SHOWN_MAX and _HARMLESS.fullmatch(value)):
            return repr(value)[:_SHOWN_MAX]
        scheme = _SCHEME.match(value)
        return repr(f"{scheme[0]}//…" if scheme else "…")
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:_SHOWN_MAX]
    return f"of type {type(value).__name__}"


def without_passwords(text: str, words: Iterable[str] = ()) -> str:
    """Free text, such as an error of a library, without the user and password of addresses and without values after
    `?name=`. `words`: texts that it may quote, such as command-line arguments; they are shown as by `shown_value`."""
    for word in sorted(words, key=len, reverse=True):
        flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        shown = shown_value(value)
        if shown != repr(value):
            for spelling in (word, repr(word)[1:-1]):
                text = text.replace(spelling, flag + equals + shown[1:-1])
    return _IN_QUERY.sub(r"\1…", _USER_INFO.sub(r"\1…@", text))


@dataclass(frozen=True)
class KafkaAddress:
    """`servers`: each `host:port`."""

    servers: tuple[str, ...]
    topic: str
    is_tls: bool


def scheme_of(address: str) -> str:
    """The part before the first colon; '' without a colon."""
    scheme, colon, _ = address.partition(":")
    return scheme if colon else ""


def parse(address: str) -> Path | KafkaAddress | None:
    """Parses an address into a directory, a topic, or None for memory. Raises ConfigError."""
    scheme = scheme_of(address)
    if scheme in ("kafka", "kafkas"):
        return kafka_address(address)
    if scheme != "memory":
        return url_path(address)
    if not _MEMORY.fullmatch(address):
        raise ConfigError(f"{shown_value(address)} is not an address in memory; accepted: {ACCEPTED['memory']}")
    return None


def url_path(url: str) -> Path:
    """The directory of `journal:///relative`, `journal:////absolute`, likewise sqlite; as SQLAlchemy reads them. Raises
    ConfigError.

    A path after three slashes is relative to the home, so an absolute path has four. Everything after them is the path,
    including `?`, `#` and `%`: they may occur in the name of a directory."""
    scheme, slashes, path = url.partition(":///")
    if not slashes or scheme not in ("journal", "sqlite") or not path.strip("/") or "\0" in path:
        accepted = ACCEPTED.get(scheme_of(url), f"{ACCEPTED['journal']}, likewise sqlite:")
        raise ConfigError(f"{shown_value(url)} names no directory; accepted: {accepted}")
    return Path(path)


def kafka_address(url: str) -> KafkaAddress:
    """Parses a Kafka address. Raises ConfigError, whose text contains no secret: an address has none, and parts that
    may be one are refused."""
    if "@" in url:
        # Never show any part of it: the text before the @ is probably a password.
        raise ConfigError(
            f"the Kafka address has an '@'; accepted: {_KAFKA}",
            hint="User and password are separate settings, so that no log line shows them.",
        )
    scheme, slashes, rest = url.partition("://")
    if not slashes or scheme not in ("kafka", "kafkas"):
        raise ConfigError(f"{shown_value(url)} is not a Kafka address; accepted: {_KAFKA}")
    if "?" in url or "#" in url:
        raise ConfigError(f"the Kafka address has a '?' or '#'; accepted: {_KAFKA}")
    hosts, _, topic = rest.partition("/")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise ConfigError(
            f"{shown_value(url)} names no topic; accepted: {_KAFKA}, "
            "with a topic of 1 to 249 letters, digits, '.', '_', '-'"
        )
    return KafkaAddress(tuple(_server(server, url) for server in hosts.split(",")), topic, scheme == "kafkas")


def _server(server: str, url: str) -> str:
    host, colon, port = server.rpartition(":")
    if not colon or (server.startswith("[") and server.endswith("]")):
        host, port = server, str(_DEFAULT_PORT)
    if not _HOST.fullmatch(host) or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65_535:
        raise ConfigError(f"{shown_value(server)} in {shown_value(url)} is not host:port; accepted: {_KAFKA}")
    return f"{host}:{int(port[:6])}"
