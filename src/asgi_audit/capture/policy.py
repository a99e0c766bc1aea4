"""What of an exchange is kept: the decision of the settings, taken once per middleware.

The decision is made of two levels of detail, for request and response apart, because rules may name them apart.
"""

from __future__ import annotations

from typing import NamedTuple

from ..settings import Settings

__all__ = ["Decision", "decide"]


class Decision(NamedTuple):
    """Each level is `none`, `metadata`, `headers` or `bodies`."""

    request: str
    response: str

    @property
    def excluded(self) -> bool:
        """Nothing is kept: the exchange is counted and gets no sequence."""
        return self.request == "none" and self.response == "none"


def decide(settings: Settings) -> Decision:
    return Decision(settings.detail, settings.detail)
