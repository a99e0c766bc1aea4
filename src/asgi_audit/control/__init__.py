"""What the API itself must remember: keys and the signing secret, in `control.db`."""

from .keys import Control, Grant, Key

__all__ = ["Control", "Grant", "Key"]
