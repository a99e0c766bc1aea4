"""What the API itself must remember: keys and the signing secret, in `control.db`."""

from .keys import Control, Key

__all__ = ["Control", "Key"]
