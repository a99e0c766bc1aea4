"""The API's own database, `control.db`: keys, their sessions, export requests and the signing secret."""

from .keys import Control, Key
from .sessions import Session

__all__ = ["Control", "Key", "Session"]
