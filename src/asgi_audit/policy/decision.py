"""What of an exchange is kept: the decision of the settings, taken once per middleware.

The decision is made of two levels of detail, for request and response apart, because rules may name them apart.
"""

from __future__ import annotations

import msgspec

from ..settings import Settings

__all__ = ["Decision", "decide"]


class Decision(msgspec.Struct, frozen=True):
    """Each level is `none`, `metadata`, `headers` or `bodies`."""

    request: str
    response: str
    excluded: bool  # nothing is kept: the exchange is counted and gets no sequence


def decide(settings: Settings) -> Decision:
    return Decision(settings.detail, settings.detail, settings.detail == "none")
