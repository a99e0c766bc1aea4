"""What the API itself must remember: keys, their sessions, export requests and the signing secret, in
`control.db`."""

from .keys import Control, Key
from .sessions import Session

__all__ = ["Control", "Key", "Session"]
