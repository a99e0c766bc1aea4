"""Read transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

__all__ = ["read_transaction"]


@contextmanager
def read_transaction(connection: apsw.Connection) -> Iterator[None]:
    """All statements of the block see the database as of the first one. Raises apsw's errors."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # An I/O error or an interrupt may have ended it. Ending it again would raise and hide the retriable error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
