"""The index in SQLite: `schema` describes its files; `writer` and `day` write them, `reader` reads them."""

from .admin import SqliteAdmin
from .files import files_of
from .inspect import inspect, quick_check
from .purging import acknowledge_in_directory, purge_directory, purge_preview
from .reader import SqliteReader
from .writer import SqliteWriter

__all__ = [
    "SqliteAdmin",
    "SqliteReader",
    "SqliteWriter",
    "acknowledge_in_directory",
    "files_of",
    "inspect",
    "purge_directory",
    "purge_preview",
    "quick_check",
]
