"""The environment of this process: its variables, and the packages that extras install."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError
from ..settings import (
    Settings,
    environment_name,
    is_turned_off,
    make_settings,
    of_an_application,
    refuse_others,
    refuse_others_of_api,
    warnings_about,
)

__all__ = [
    "EXTRAS",
    "api_settings",
    "application_settings",
    "extra",
    "ignore_home",
    "log_format",
    "settings_from",
    "share_home",
]

_log = logging.getLogger("asgi_audit")


_warned: set[str] = set()


# Packages by the extra that installs them.
EXTRAS = {
    "apsw": "server",
    "cryptography": "server",
    "starlette": "server",
    "uvicorn": "server",
    "zstandard": "server",
    "prometheus_client": "server",
    "httpx": "client",
    "rich": "client",
    "shtab": "client",
    "aiokafka": "kafka",
    "jwt": "server,jwt",
    "boto3": "server,s3",
    "botocore": "server,s3",
    "datasette": "server,demo",
    "datasette_auth_passwords": "server,demo",
}


def settings_from(**given: Any) -> Settings:
    """Settings from arguments or flags, then this process's environment, then defaults. Raises ConfigError. Warns once
    about each unknown environment variable with our prefix, and about each retired setting."""
    _warn(given)
    return make_settings(os.environ, **given)


def _warn(given: Mapping[str, Any]) -> None:
    for name, text in warnings_about(os.environ, given).items():
        if name not in _warned:
            _warned.add(name)
            _log.warning("asgi-audit: %s", text)


def application_settings(**given: Any) -> Settings:
    """Like `settings_from`, for the middleware: paths are absolute, because the application may change its working
    directory, and only the application's settings are read.

    `ASGI_AUDIT_ENABLED=0` has precedence even over wrong settings, so that an operator can always start the
    application."""
    if is_turned_off(os.environ):
        return Settings(enabled=False)
    refuse_others(given)
    _warn(given)
    return make_settings(of_an_application(os.environ), **given).absolute()


def api_settings(**given: Any) -> Settings:
    """Like `settings_from`, for `create_app`: paths are absolute, and only settings of the API are accepted."""
    refuse_others_of_api(given)
    return settings_from(**given).absolute()


def log_format(flag: str | None) -> str:
    """The log format of a command, whether or not its other settings are valid. An invalid value counts as text until
    settings are checked."""
    name = environment_name("log_format")
    try:
        return make_settings({k: v for k, v in os.environ.items() if k == name}, log_format=flag).log_format
    except ConfigError:
        return "text"


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Wraps imports of packages of an extra: raises ConfigError with one clear line instead of ModuleNotFoundError."""
    try:
        yield
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise ConfigError(
            f"the package {package} is not installed", hint=f"pip install 'asgi-audit[{EXTRAS[package]}]'"
        ) from e


def ignore_home(settings: Settings) -> None:
    """Writes a .gitignore into the home, which by default is beside the application's source: records and keys must not
    be committed. Called after something was created in the home; never raises."""
    with contextlib.suppress(OSError):  # exists already, no home, another user's home, or read-only
        fd = settings.access.open(settings.home / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, b"# Records and keys of asgi-audit: not for a repository.\n*\n")
        finally:
            os.close(fd)


def share_home(settings: Settings) -> None:
    """Gives the group access to the home: a home created for this user only would block access to its contents."""
    if settings.access.group is not None:
        with contextlib.suppress(OSError):  # another user's, a link, or missing: creating files in it will report that
            settings.access.mend(settings.home)
