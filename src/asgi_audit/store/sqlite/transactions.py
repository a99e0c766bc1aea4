"""Read transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

__all__ = ["read_transaction"]


@contextmanager
def read_transaction(connection: apsw.Connection) -> Iterator[None]:
    """All statements of the block see the database as it stood at the first of them. Raises apsw's errors."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # An I/O error and an interrupt may have ended it; ending it again would be the error that is seen, and no
        # retriable one.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
