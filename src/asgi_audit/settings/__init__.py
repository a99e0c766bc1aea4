"""Every setting, once: this table drives defaults, environment names, flags, `--help` and the README's table.

Precedence: argument or flag, environment, default. Only `wiring` reads the environment. A wrong setting is a
ConfigError of one line: its name, its value (masked when secret), what is accepted, and the accepted word that it
resembles. An environment variable with our prefix that is no setting is a warning: after an update is taken back, the
older version must start with what was set for the newer one.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..addresses import shown_value
from ..disk import Access
from ..errors import ConfigError

__all__ = [
    "PREFIX",
    "Settings",
    "environment_name",
    "is_turned_off",
    "make_settings",
    "markdown_table",
    "meant",
    "table",
    "unknown_variables",
    "url_path",
]

PREFIX = "ASGI_AUDIT_"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[^/\x00-\x1f]{1,200}")

Parse = Callable[[Any], Any]


class _Wrong(ValueError):
    """`str(e)` is what is accepted; `words`: those of it that may have been meant with `word`, by default the
    value."""

    def __init__(self, accepted: str, words: Sequence[str] = (), *, word: str | None = None) -> None:
        super().__init__(accepted)
        self.words = words
        self.word = word


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise _Wrong("1 or 0, true or false, yes or no, on or off", ("true", "false", "yes", "no", "on", "off"))


def _int(low: int, high: int, unit: str = "") -> Parse:
    accepted = f"a whole number from {low:,} to {high:,}".replace(",", "_") + (f" ({unit})" if unit else "")

    def parse(value: Any) -> int:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = value if isinstance(value, int) else int(str(value).strip())
        except ValueError:
            raise _Wrong(accepted) from None
        if not low <= number <= high:
            raise _Wrong(accepted)
        return number

    return parse


def _seconds(low: float, high: float) -> Parse:
    accepted = f"seconds from {low:g} to {high:g}"

    def parse(value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError):
            raise _Wrong(accepted) from None
        if not low <= number <= high:
            raise _Wrong(accepted)
        return number

    return parse


def _choice(*names: str) -> Parse:
    def parse(value: Any) -> str:
        if value not in names:
            raise _Wrong("one of " + ", ".join(names), names)
        return str(value)

    return parse


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _Wrong("1 to 64 letters, digits, dots, underscores and hyphens")
    return value


def _account(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 200 or not value.isprintable() or value == "*":
        raise _Wrong("1 to 200 printable characters, not '*'")
    return value


def _instance(value: Any) -> str:
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value) or value in (".", ".."):
        raise _Wrong("1 to 200 characters without '/' and control characters, not '.' or '..'")
    return value


def _header(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", value):
        raise _Wrong("a header name, or nothing to leave responses untouched")
    return value.lower()


def _path(value: Any) -> Path:
    # An address is no path: taken for one, it would become a directory of that name, password included.
    if not isinstance(value, (str, Path)) or not str(value) or "://" in str(value):
        raise _Wrong("a path")
    return Path(value)


def _url(*schemes: str) -> Parse:
    """Accepts URLs of the named schemes; one that is shown with a path must name a directory."""
    accepted = " or ".join(schemes)
    with_path = {s.split(":", 1)[0]: s.count("/") > 2 for s in schemes}

    def parse(value: Any) -> str:
        if value is None or value == "":
            return ""
        if not isinstance(value, str):
            raise _Wrong(accepted)
        scheme, colon, _ = value.partition(":")
        if not colon or scheme not in with_path or "\0" in value:
            raise _Wrong(accepted, tuple(with_path), word=scheme)
        if not with_path[scheme] and not re.fullmatch(r"//[A-Za-z0-9._-]{0,64}", value.partition(":")[2]):
            raise _Wrong(accepted)
        if with_path[scheme]:
            try:
                url_path(value)
            except ConfigError:
                raise _Wrong(f"{scheme}:///relative/path or {scheme}:////absolute/path") from None
        return value

    return parse


_SERVER = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_KAFKA = re.compile(rf"kafkas?://{_SERVER}(?:,{_SERVER})*/[A-Za-z0-9._-]{{1,249}}")
_place = _url("journal:///path", "memory://")


def _transport(value: Any) -> str:
    scheme = value.partition(":")[0] if isinstance(value, str) else ""
    if scheme in ("kafka", "kafkas"):
        accepted = "kafka://host:port[,host:port]/topic, or kafkas:// for TLS"
        if "@" in value:
            raise _Wrong(f"{accepted}; user and password are settings of their own")
        if not _KAFKA.fullmatch(value):
            raise _Wrong(accepted)
        return str(value)
    if value in (None, "") or scheme in ("journal", "memory"):
        return str(_place(value))
    accepted = "journal:///path or memory:// or kafka://host:port[,host:port]/topic"
    raise _Wrong(accepted, ("journal", "memory", "kafka", "kafkas"), word=scheme)


def _journal(value: Any) -> Path | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.startswith("journal:"):
        return url_path(str(_url("journal:///path")(value)))
    return _path(value)


def _optional_path(value: Any) -> Path | None:
    return None if value is None or value == "" else _path(value)


def _optional_choice(*names: str) -> Parse:
    def parse(value: Any) -> str:
        return "" if value is None or value == "" else str(_choice(*names)(value))

    return parse


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value or len(value) > 1000:
        raise _Wrong("at most 1000 characters")
    return value


def _host(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._:%-]{1,255}", value):
        raise _Wrong("an address or a host name, such as 127.0.0.1, 0.0.0.0 or ::1")
    return value


def _optional_port(value: Any) -> int | None:
    return None if value is None or value == "" else int(_int(0, 65_535)(value))


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(v, str) and v for v in value):
        raise _Wrong("names, separated by commas")
    return tuple(value)


def _group(value: Any) -> int | None:
    """The number of a group, from its name or its number."""
    if value is None or value == "":
        return None
    accepted = "the name or the number of a group of this machine"
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        if not isinstance(value, bool) and 0 <= int(value) < 1 << 32:
            return int(value)
        raise _Wrong(accepted)
    import grp

    try:
        return grp.getgrnam(value).gr_gid
    except (KeyError, TypeError, ValueError):
        raise _Wrong(accepted) from None


def _setting(default: Any, parse: Parse, help: str, *, secret: bool = False, only: str = "") -> Any:
    return field(default=default, metadata={"parse": parse, "help": help, "secret": secret, "only": only})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Validated whole by `make_settings`. `only` in the metadata says who uses a setting: middleware or server."""

    enabled: bool = _setting(True, _bool, "0 turns everything off: the application is called as if we were not there.")
    home: Path = _setting(  # noqa: RUF009 - a frozen default
        Path(".asgi-audit"), _path, "Directory in which everything meets that no other setting names."
    )
    share_with_group: int | None = _setting(
        None,
        _group,
        "Group, by name or number, that may read and write what is made: files get mode 0660, directories 2770. "
        "Default: this user alone, 0600 and 0700.",
    )
    transport: str = _setting(
        "",
        _transport,
        "`journal:///path`, or `kafka://host:port[,host:port]/topic` (`kafkas://` for TLS), which is sent to from a "
        "journal. Default: `journal/` in the home.",
    )
    journal: Path | None = _setting(  # noqa: RUF009 - a frozen default
        None, _journal, "Directory of the journal when `transport` is Kafka. Default: `journal/` in the home."
    )
    store: str = _setting(
        "", _url("sqlite:///path"), "Where the index is. Default: `index/` in the home.", only="server"
    )
    service: str = _setting("app", _name, "Service of the records.", only="middleware")
    account_id: str = _setting(
        "default", _account, "Account of the records that no annotation names.", only="middleware"
    )
    instance_id: str = _setting(
        "default", _instance, "Service instance of the records that no annotation names.", only="middleware"
    )
    region: str = _setting("global", _choice("global", "eu"), "Region of the records.", only="middleware")
    scope: str = _setting("service", _choice("management", "service"), "Scope of the records.", only="middleware")
    delivery: str = _setting(
        "buffered",
        _choice("buffered", "durable"),
        "`buffered`: nothing waits. `durable`: the client's last bytes wait until the record is on disk.",
        only="middleware",
    )
    durable_wait_seconds: float = _setting(
        2.0, _seconds(0.01, 60), "Longest that `durable` holds an answer back.", only="middleware"
    )
    detail: str = _setting(
        "bodies",
        _choice("none", "metadata", "headers", "bodies"),
        "What of request and response is kept. `none` is counted as excluded.",
        only="middleware",
    )
    body_bytes_max: int = _setting(
        65_536, _int(0, 16_777_216, "bytes"), "Most that is kept of a body, each way.", only="middleware"
    )
    request_id_header: str | None = _setting(
        "x-request-id",
        _header,
        "Header that brings the request id and takes it back; empty: responses are left untouched.",
        only="middleware",
    )
    redact_names: tuple[str, ...] = _setting(
        (), _names, "Names of fields and headers to mask beside the built-in ones.", only="middleware"
    )
    flush_seconds: float = _setting(
        0.02, _seconds(0.001, 5), "Longest that a sealed record stays in memory.", only="middleware"
    )
    capture_bytes_max: int = _setting(
        33_554_432,
        _int(65_536, 1 << 36, "bytes"),
        "Bodies in memory of all exchanges that are open or not yet written.",
        only="middleware",
    )
    queue_max: int = _setting(
        50_000, _int(100, 10_000_000), "Sealed exchanges that wait to be written.", only="middleware"
    )
    journal_bytes_max: int = _setting(
        1 << 30,
        _int(1 << 20, 1 << 50, "bytes"),
        "The whole journal on disk, dead processes included; of `memory://` at most 64 MiB.",
    )
    record_bytes_max: int = _setting(
        1_000_000,
        _int(524_288, 64 << 20, "bytes"),
        "Most that one record takes; below the topic's `max.message.bytes`. Bodies of a larger one are cut.",
        only="middleware",
    )
    segment_bytes: int = _setting(8 << 20, _int(1 << 12, 1 << 30, "bytes"), "Size at which a journal file is closed.")
    kafka_ca_file: Path | None = _setting(  # noqa: RUF009
        None, _optional_path, "CA certificates (PEM) by which a `kafkas://` broker is known. Default: the system's."
    )
    kafka_cert_file: Path | None = _setting(  # noqa: RUF009
        None, _optional_path, "Our own certificate (PEM), when the broker asks."
    )
    kafka_key_file: Path | None = _setting(  # noqa: RUF009
        None, _optional_path, "The key of our certificate (PEM)."
    )
    kafka_key_password: str = _setting("", _text, "Password of the key file.", secret=True)
    kafka_sasl_mechanism: str = _setting(
        "",
        _optional_choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Default: the last, as soon as there is a user name.",
    )
    kafka_username: str = _setting("", _text, "User name at the broker.")
    kafka_password: str = _setting("", _text, "Password at the broker.", secret=True)
    kafka_compression: str = _setting(
        "auto",
        _choice("auto", "zstd", "lz4", "gzip", "none"),
        "How batches are compressed. `auto`: the best that is installed.",
    )
    kafka_linger_seconds: float = _setting(
        0.1, _seconds(0.005, 10), "How often the journal is read for more to send: larger batches, a longer way."
    )
    kafka_group_id: str = _setting(
        "asgi-audit-indexer",
        _name,
        "Consumer group under which the indexer's offsets are committed, for lag tools alone.",
        only="server",
    )
    retention_days: int = _setting(
        0,
        _int(0, 36_500, "days; 0 keeps all"),
        "How many days before today the index keeps; 0 keeps all.",
        only="server",
    )
    host: str = _setting("127.0.0.1", _host, "Address that `serve` listens on.", only="server")
    port: int = _setting(8400, _int(0, 65_535), "Port that `serve` listens on; 0 takes a free one.", only="server")
    metrics_host: str = _setting(
        "127.0.0.1", _host, "Address on which `index` and `forward` show metrics and health.", only="server"
    )
    metrics_port: int | None = _setting(
        None,
        _optional_port,
        "Port of `/metrics` and `/health/…` of `index` and `forward`; not set: off; 0 takes a free one.",
        only="server",
    )
    log_format: str = _setting(
        "text", _choice("text", "json"), "How the commands log: `json` is one object a line.", only="server"
    )
    query_wait_seconds: float = _setting(
        2.0, _seconds(0, 60), "Longest that a query waits to see the requests made before it.", only="server"
    )
    execution_seconds: int = _setting(
        86_400, _int(60, 31_536_000, "seconds"), "How long a query execution and its tokens are valid.", only="server"
    )
    page_bytes_max: int = _setting(
        8 << 20, _int(1 << 16, 1 << 30, "bytes"), "Size at which a page of an answer ends.", only="server"
    )

    @property
    def access(self) -> Access:
        return Access(self.share_with_group)

    @property
    def transport_url(self) -> str:
        return self.transport or f"journal:///{self.home / 'journal'}"

    @property
    def is_kafka(self) -> bool:
        return self.transport.startswith(("kafka://", "kafkas://"))

    @property
    def journal_path(self) -> Path | None:
        """The directory in which records are written ahead; None when they are kept in memory."""
        if self.is_kafka:
            return self.journal or self.home / "journal"
        return url_path(self.transport_url) if self.transport_url.startswith("journal:") else None

    @property
    def dead_letters_path(self) -> Path:
        """What a broker refuses for good. Beside the journal, not in it: its names are processes."""
        return self.home / "dead-letters"

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:///{self.home / 'index'}"

    @property
    def control_path(self) -> Path:
        return self.home / "control.db"

    def absolute(self) -> Settings:
        """The same with every path absolute: for objects that live on in an application which may change its working
        directory, and so that two spellings of one journal are one."""
        changed: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Path):
                changed[f.name] = _absolute(value)
            elif f.name in ("transport", "store") and ":///" in value:
                changed[f.name] = f"{value.partition(':')[0]}:///{_absolute(url_path(value))}"
        return dataclasses.replace(self, **changed)

    def __repr__(self) -> str:
        shown = (
            f"{f.name}={'***' if f.metadata['secret'] else repr(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        )
        return f"Settings({', '.join(shown)})"


# The function itself: a framework makes its middleware inside the running loop, where tools that find blocking calls
# (BlockBuster) put one that raises in its place. The kernel answers from memory.
_getcwd = os.getcwd


def _absolute(path: Path) -> Path:
    try:
        # A link stays as it is named, for it may be set anew; only what `..` means must be asked now.
        if ".." in path.parts:
            return Path(os.path.realpath(path))
        return path if path.is_absolute() else Path(_getcwd(), path)
    except OSError:
        return path  # the working directory is gone: what is relative to it fails where it is used


def environment_name(name: str) -> str:
    return PREFIX + name.upper()


def table() -> list[tuple[str, str, Any, str, str]]:
    """(name, environment name, default, help, only) of every setting, in order."""
    return [
        (f.name, environment_name(f.name), f.default, f.metadata["help"], f.metadata["only"])
        for f in dataclasses.fields(Settings)
    ]


def make_settings(environment: Mapping[str, str], **given: Any) -> Settings:
    """`given` (arguments or flags; None means not given) over `environment` over the defaults. Raises ConfigError.

    A name in `given` that is no setting is a ConfigError. An environment variable with our prefix that is none is
    passed over: see `unknown_variables`."""
    fields = {f.name: f for f in dataclasses.fields(Settings)}
    for name in given:
        if name not in fields:
            raise ConfigError(f"{name!r} is no setting{meant(name, fields) or '; accepted are ' + ', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, f in fields.items():
        # In the environment ENABLED=0 beats all: an operator can always turn us off.
        if name == "enabled" and is_turned_off(environment):
            values[name] = False
        elif given.get(name) is not None or (name == "request_id_header" and name in given):
            values[name] = _parsed(f, given[name], name)
        elif environment_name(name) in environment:
            values[name] = _parsed(f, environment[environment_name(name)], environment_name(name))
    return Settings(**values)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What to say of each variable with our prefix that is no setting, by its name. Those of the test suite
    (`ASGI_AUDIT_TEST_…`) are left out."""
    known = [f.name.upper() for f in dataclasses.fields(Settings)]
    found = {}
    for key in environment:
        name = key.removeprefix(PREFIX)
        if name != key and name not in known and not name.startswith("TEST_"):
            like = meant(name, known).replace("mean ", f"mean {PREFIX}")
            found[key] = f"the environment variable {key} is no setting of this version and has no effect{like}"
    return found


def is_turned_off(environment: Mapping[str, str]) -> bool:
    """Whether ASGI_AUDIT_ENABLED says so. Raises ConfigError when it says neither yes nor no."""
    switch = environment_name("enabled")
    (field,) = (f for f in dataclasses.fields(Settings) if f.name == "enabled")
    return switch in environment and not _parsed(field, environment[switch], switch)


def meant(word: object, accepted: Iterable[str]) -> str:
    """`; did you mean …?` with the accepted word that `word` resembles, or ''."""
    by_lower = {a.lower(): a for a in accepted}
    close = difflib.get_close_matches(str(word).strip().lower()[:100], by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def _parsed(f: dataclasses.Field[Any], value: Any, shown: str) -> Any:
    try:
        return f.metadata["parse"](value)
    except _Wrong as e:
        what = "***" if f.metadata["secret"] else shown_value(value)
        raise ConfigError(
            f"setting {shown} is {what}; accepted: {e}{meant(value if e.word is None else e.word, e.words)}"
        ) from None


def url_path(url: str) -> Path:
    """The directory of `journal:///relative`, `journal:////absolute`, likewise sqlite; as SQLAlchemy reads them.

    The home's own path is joined after three slashes, so an absolute one has four. All that follows is the path, also
    `?`, `#` and `%`: a directory may be called so."""
    scheme, slashes, path = url.partition(":///")
    if not slashes or ":" in scheme or not path.strip("/"):
        scheme = scheme if scheme in ("journal", "sqlite") else "sqlite"
        raise ConfigError(
            f"{shown_value(url)} names no directory; accepted: {scheme}:///relative or {scheme}:////absolute"
        )
    return Path(path)


def markdown_table(only: tuple[str, ...] = ("", "middleware", "server")) -> str:
    """The settings as the README shows them; a test holds the two together."""
    lines = ["| setting | environment | default | what it does |", "|---|---|---|---|"]
    for name, environment, default, help, used_by in table():
        if used_by not in only:
            continue
        if isinstance(default, bool):
            shown = "`1`" if default else "`0`"
        elif default in ("", (), None):
            shown = ""
        else:
            shown = f"`{default}`"
        lines.append(f"| `{name}` | `{environment}` | {shown} | {help} |")
    return "\n".join(lines)
