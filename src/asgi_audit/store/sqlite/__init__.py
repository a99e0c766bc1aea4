"""The index in SQLite: `schema` says what stands in its files; `writer` and `day` write them, `reader` reads them."""

from .admin import SqliteAdmin
from .files import files_of
from .inspect import Burial, IndexFacts, inspect, quick_check
from .purging import acknowledge_in_directory, doomed, purge_directory
from .reader import SqliteReader
from .retention import Doomed
from .writer import SqliteWriter

__all__ = [
    "Burial",
    "Doomed",
    "IndexFacts",
    "SqliteAdmin",
    "SqliteReader",
    "SqliteWriter",
    "acknowledge_in_directory",
    "doomed",
    "files_of",
    "inspect",
    "purge_directory",
    "quick_check",
]
