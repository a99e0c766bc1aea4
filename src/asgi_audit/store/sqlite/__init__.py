"""The index in SQLite: `schema` says what stands in its files; `writer` and `day` write them, `reader` reads them."""

from .purging import doomed, purge_directory
from .reader import SqliteReader
from .retention import Doomed
from .writer import SqliteWriter

__all__ = ["Doomed", "SqliteReader", "SqliteWriter", "doomed", "purge_directory"]
