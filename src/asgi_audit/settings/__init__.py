"""All settings in one table, which defines defaults, environment names, flags, `--help` and the README's table.

Precedence: argument or flag, environment, default. Only `wiring` reads the environment. A wrong setting raises a
ConfigError of one line: name, value (masked when secret), accepted values, and the accepted word that it resembles.
Each group has a file: the table's rows as a dataclass, and for settings of the application also a `TypedDict` for
editors and type checkers; a test compares the two.
"""

from __future__ import annotations

from .checks import meant
from .table import (
    PREFIX,
    RETIRED,
    ApiSettings,
    ApplicationSettings,
    Settings,
    environment_name,
    is_turned_off,
    make_settings,
    of_an_application,
    refuse_others,
    refuse_others_of_api,
    table,
    warnings_about,
)

__all__ = [
    "PREFIX",
    "RETIRED",
    "ApiSettings",
    "ApplicationSettings",
    "Settings",
    "environment_name",
    "is_turned_off",
    "make_settings",
    "meant",
    "of_an_application",
    "refuse_others",
    "refuse_others_of_api",
    "table",
    "warnings_about",
]
