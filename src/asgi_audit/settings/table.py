"""Joins the groups into one table, and makes a process's settings: arguments or flags, then the environment, then
defaults."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..addresses import scheme_of, shown_value, url_path
from ..disk import Access
from ..errors import ConfigError
from .api import Api, ApiSettings
from .capture import Capture, CaptureSettings
from .checks import Wrong, meant
from .delivery import Delivery, DeliverySettings
from .exports import Exports
from .identity import Identity, IdentitySettings
from .index import Index
from .jwt import Jwt
from .kafka import Kafka, KafkaSettings

__all__ = [
    "PREFIX",
    "RETIRED",
    "ApiSettings",
    "ApplicationSettings",
    "Settings",
    "environment_name",
    "is_turned_off",
    "make_settings",
    "of_an_application",
    "refuse_others",
    "refuse_others_of_api",
    "table",
    "warnings_about",
]

PREFIX = "ASGI_AUDIT_"
# Retired settings of version 0.1.0, with the explanation for the warning. This version warns about them; the next one
# no longer knows them.
RETIRED = {
    "queue_max": "at most 50,000 sealed exchanges wait to be written",
    "flush_seconds": "records are written every 20 ms",
    "segment_bytes": "a journal file is closed at 8 MiB",
    "page_bytes_max": "a page of a response ends at 8 MiB",
    "kafka_compression": "batches are compressed with zstd where its library is installed",
}


# Kubernetes gives every pod variables of each Service of its namespace: one called `asgi-audit` makes
# ASGI_AUDIT_PORT=tcp://10.0.0.11:8400, ASGI_AUDIT_SERVICE_HOST, ASGI_AUDIT_PORT_8400_TCP_ADDR and more
# (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_KUBERNETES_NAME = re.compile(r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")
_KUBERNETES_PORT = re.compile(r"(?:tcp|udp|sctp)://[0-9A-Fa-f.:\[\]]+:\d{1,5}")


class ApplicationSettings(DeliverySettings, IdentitySettings, CaptureSettings, KafkaSettings, total=False):
    """Keyword arguments of the middleware and of `install`."""


# Dataclass fields are ordered from the last base to the first.
@dataclass(frozen=True, kw_only=True)
class Settings(Exports, Jwt, Api, Index, Kafka, Capture, Identity, Delivery):
    """Validated as a whole by `make_settings`. `only` in the metadata names the only user of a setting: middleware or
    server."""

    @property
    def access(self) -> Access:
        return Access(self.share_with_group)

    @property
    def transport_url(self) -> str:
        return self.transport or f"journal:///{self.home / 'journal'}"

    @property
    def is_kafka(self) -> bool:
        return scheme_of(self.transport) in ("kafka", "kafkas")

    @property
    def is_memory(self) -> bool:
        return scheme_of(self.transport) == "memory"

    @property
    def journal_path(self) -> Path | None:
        """The directory of the journal; None when records are kept in memory."""
        if self.is_kafka:
            return self.journal or self.home / "journal"
        return None if self.is_memory else url_path(self.transport_url)

    @property
    def dead_letters_path(self) -> Path:
        """The directory of records that a broker refused permanently. Beside the journal, because names inside the
        journal are process ids."""
        return self.home / "dead-letters"

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:///{self.home / 'index'}"

    @property
    def store_path(self) -> Path:
        return url_path(self.store_url)

    @property
    def control_path(self) -> Path:
        return self.home / "control.db"

    @property
    def exports_path(self) -> Path:
        return self.export_path or self.home / "exports"

    def absolute(self) -> Settings:
        """The settings with absolute paths: an application may change its working directory, and two spellings of one
        journal path must be equal."""
        changed: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Path):
                changed[f.name] = _absolute(value)
            elif f.name in ("transport", "store") and ":///" in value:
                changed[f.name] = f"{scheme_of(value)}:///{_absolute(url_path(value))}"
            elif f.name == "jwt_jwks" and value and "://" not in value:
                changed[f.name] = str(_absolute(Path(value)))
        return dataclasses.replace(self, **changed)

    def __repr__(self) -> str:
        shown = (
            f"{f.name}={'***' if f.metadata['secret'] else repr(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        )
        return f"Settings({', '.join(shown)})"


# A reference to the original function: frameworks create middleware inside the running loop, where tools that detect
# blocking calls (BlockBuster) replace `os.getcwd` by one that raises. The call does not block.
_getcwd = os.getcwd


def _absolute(path: Path) -> Path:
    try:
        # Keep symbolic links unresolved, because they may be changed later; only `..` must be resolved now.
        if ".." in path.parts:
            return Path(os.path.realpath(path))
        return path if path.is_absolute() else Path(_getcwd(), path)
    except OSError:
        return path  # the working directory is gone: relative paths fail when they are used


def environment_name(name: str) -> str:
    return PREFIX + name.upper()


def table() -> list[tuple[str, str, Any, str, str]]:
    """(name, environment name, default, help, only) of every setting, in order."""
    return [
        (f.name, environment_name(f.name), f.default, f.metadata["help"], f.metadata["only"])
        for f in dataclasses.fields(Settings)
    ]


def make_settings(environment: Mapping[str, str], **given: Any) -> Settings:
    """Makes settings from `given` (arguments or flags; None means not given), then `environment`, then defaults. Raises
    ConfigError.

    An unknown name in `given` raises ConfigError. Unknown environment variables with our prefix, and retired settings,
    are ignored: see `warnings_about`."""
    environment = _without_kubernetes(environment)
    fields = {f.name: f for f in dataclasses.fields(Settings)}
    for name in given:
        if name not in fields and name not in RETIRED:
            raise _unknown(name, fields)
    values: dict[str, Any] = {}
    for name, f in fields.items():
        # ENABLED=0 in the environment has precedence: an operator can always turn recording off.
        if name == "enabled" and is_turned_off(environment):
            values[name] = False
        elif given.get(name) is not None or (name == "request_id_header" and name in given):
            values[name] = _checked(f, given[name], name)
        elif environment_name(name) in environment:
            values[name] = _checked(f, environment[environment_name(name)], environment_name(name))
    settings = Settings(**values)
    settings.check_tokens()
    return settings


def _without_kubernetes(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in environment.items()
        if key.startswith(PREFIX)
        and not _KUBERNETES_NAME.fullmatch(key, len(PREFIX))
        and not (key.endswith("PORT") and _KUBERNETES_PORT.fullmatch(value))
    }


def of_an_application(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables of the index and the API: a wrong one must not stop an application."""
    others = {environment_name(f.name) for f in dataclasses.fields(Settings) if f.metadata["only"] == "server"}
    return {key: value for key, value in environment.items() if key not in others}


def refuse_others(given: Iterable[str]) -> None:
    """Raises ConfigError for names that are not settings of an application: a setting of the index would silently have
    no effect there."""
    accepted = {f.name: f.metadata["only"] != "server" for f in dataclasses.fields(Settings)}
    for name in given:
        if name in RETIRED or accepted.get(name):
            continue
        if name in accepted:
            raise ConfigError(
                f"{name!r} is not a setting of an application: it belongs to the index or the API",
                hint=f"Set it for `asgi-audit index` or `serve`, as a flag or as {environment_name(name)}.",
            )
        raise _unknown(name, [name for name, is_ours in accepted.items() if is_ours])


def refuse_others_of_api(given: Iterable[str]) -> None:
    """Raises ConfigError for settings that `create_app` does not use."""
    for name in given:
        if name not in ApiSettings.__annotations__:
            raise _unknown(name, ApiSettings.__annotations__)


def _unknown(name: str, accepted: Iterable[str]) -> ConfigError:
    return ConfigError(f"{name!r} is not a setting{meant(name, accepted) or '; accepted are ' + ', '.join(accepted)}")


_OF_THE_CLIENT = ("URL", "KEY")


def warnings_about(environment: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """{name: warning} of ignored settings: retired ones, and unknown environment variables with our prefix. Variables
    of the test suite (`ASGI_AUDIT_TEST_…`) and of the client (`ASGI_AUDIT_URL`, `ASGI_AUDIT_KEY`) are not reported.

    Unknown variables warn instead of raising: after a downgrade the older version must start with the variables of the
    newer one."""
    known = [f.name.upper() for f in dataclasses.fields(Settings)]
    found = {name: _retired(name, name) for name, value in given.items() if name in RETIRED and value is not None}
    for key in _without_kubernetes(environment):
        name = key.removeprefix(PREFIX)
        if name == key or name in known or name in _OF_THE_CLIENT or name.startswith("TEST_"):
            continue
        if name.lower() in RETIRED:
            found[key] = _retired(name.lower(), key)
        else:
            like = meant(name, known).replace("mean ", f"mean {PREFIX}")
            found[key] = f"the environment variable {key} is not a setting of this version and has no effect{like}"
    return found


def _retired(name: str, shown: str) -> str:
    return f"setting {shown} has no effect any more: {RETIRED[name]}; remove it; the next version will not know it"


def is_turned_off(environment: Mapping[str, str]) -> bool:
    """Whether ASGI_AUDIT_ENABLED turns recording off. Raises ConfigError for a value that is not a boolean."""
    switch = environment_name("enabled")
    (field,) = (f for f in dataclasses.fields(Settings) if f.name == "enabled")
    return switch in environment and not _checked(field, environment[switch], switch)


def _checked(f: dataclasses.Field[Any], value: Any, shown: str) -> Any:
    try:
        return f.metadata["check"](value)
    except Wrong as e:
        what = "***" if f.metadata["secret"] else shown_value(value)
        like = meant(value if e.word is None else e.word, e.words)
        raise ConfigError(f"setting {shown} is {what}; accepted: {e}{like}") from None
