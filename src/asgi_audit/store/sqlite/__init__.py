"""The index in SQLite: `schema` says what stands in its files; `writer` and `day` write them, `reader` reads them."""

from .reader import SqliteReader
from .writer import SqliteWriter

__all__ = ["SqliteReader", "SqliteWriter"]
