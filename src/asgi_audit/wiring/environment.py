"""What this process finds around it: the environment, and the packages that extras bring."""

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


# Packages by the extra that brings them.
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
    "boto3": "server,s3",
    "botocore": "server,s3",
    "datasette": "server,demo",
    "datasette_auth_passwords": "server,demo",
}


def settings_from(**given: Any) -> Settings:
    """Arguments or flags over this process's environment over the defaults. Raises ConfigError; warns once of each
    environment variable that has our prefix and is no setting, and of each setting that is retired."""
    _warn(given)
    return make_settings(os.environ, **given)


def _warn(given: Mapping[str, Any]) -> None:
    for name, text in warnings_about(os.environ, given).items():
        if name not in _warned:
            _warned.add(name)
            _log.warning("asgi-audit: %s", text)


def application_settings(**given: Any) -> Settings:
    """The same for the middleware: every path is absolute, because the application may change its working directory,
    and only what an application uses is looked at.

    `ASGI_AUDIT_ENABLED=0` beats everything, also what is wrong: it is the way out of a start that is refused."""
    if is_turned_off(os.environ):
        return Settings(enabled=False)
    refuse_others(given)
    _warn(given)
    return make_settings(of_an_application(os.environ), **given).absolute()


def api_settings(**given: Any) -> Settings:
    """The same for `create_app`: absolute paths, and only what the API uses is accepted."""
    refuse_others_of_api(given)
    return settings_from(**given).absolute()


def log_format(flag: str | None) -> str:
    """How a command logs, whatever its other settings are. A value that is no format is text until they are checked."""
    name = environment_name("log_format")
    try:
        return make_settings({k: v for k, v in os.environ.items() if k == name}, log_format=flag).log_format
    except ConfigError:
        return "text"


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Around imports of what an extra brings: one clear line instead of a ModuleNotFoundError. Raises ConfigError."""
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
    """Keeps git from what is in the home, which stands beside the application's source by default: records and keys do
    not belong there. Called where something was made in it; never raises."""
    with contextlib.suppress(OSError):  # there already, no home, another user's, or read-only
        fd = settings.access.open(settings.home / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, b"# Records and keys of asgi-audit: not for a repository.\n*\n")
        finally:
            os.close(fd)


def share_home(settings: Settings) -> None:
    """A home that was made for this user alone would keep the group from what is in it."""
    if settings.access.group is not None:
        with contextlib.suppress(OSError):  # another user's, a link, or none yet: what is made in it says so
            settings.access.mend(settings.home)
