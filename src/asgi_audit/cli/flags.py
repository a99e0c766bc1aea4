"""Flags from the settings table: a command lists the settings that it uses; names, help and checks come from the
table."""

from __future__ import annotations

import argparse
from typing import Any

from ..settings import RETIRED, Settings, table
from ..wiring.environment import settings_from

__all__ = ["JWT", "KAFKA", "add_new_index", "add_settings", "settings_of"]

# Without passwords: all users of the machine can see a command line.
KAFKA = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file", "kafka_sasl_mechanism", "kafka_username")
JWT = (
    "jwt_issuer",
    "jwt_audience",
    "jwt_jwks",
    "jwt_algorithms",
    "jwt_leeway_seconds",
    "jwt_role_claim",
    "jwt_roles",
    "jwt_accounts_claim",
)


def add_settings(
    parser: argparse.ArgumentParser, *names: str, aliases: dict[str, tuple[str, ...]] | None = None
) -> None:
    """Adds a flag for each setting, such as `--query-wait-seconds`, and its `aliases`. `settings_of` checks the
    values."""
    rows = {name: (environment, default, help) for name, environment, default, help, _ in table()}
    group = parser.add_argument_group("settings", "precedence: flag, environment, default")
    for name in names:
        if name in RETIRED:  # accepted for one version; the environment's reader warns
            group.add_argument(_flag(name), dest="setting_" + name, help=argparse.SUPPRESS)
            continue
        environment, default, help = rows[name]
        shown = f" Default: {default}." if default not in ("", (), None) and "Default:" not in help else ""
        group.add_argument(
            *(aliases or {}).get(name, ()),
            _flag(name),
            dest="setting_" + name,
            metavar="VALUE",
            default=None,
            help=f"{help}{shown} [{environment}]".replace("%", "%%"),
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_new_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--new-index",
        action="store_true",
        help="the earlier index is permanently lost: create a new one, or accept the one found. Without this flag, a "
        "missing or different index stops indexing and queries",
    )


def settings_of(arguments: argparse.Namespace, **given: Any) -> Settings:
    """The settings of a command from its flags, then the environment, then defaults. Raises ConfigError."""
    flags = {
        name.removeprefix("setting_"): value for name, value in vars(arguments).items() if name.startswith("setting_")
    }
    return settings_from(**flags, **given)
