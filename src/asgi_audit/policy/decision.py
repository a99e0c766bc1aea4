"""Which parts of an exchange are recorded: decided from the settings, once per middleware.

The decision has two levels of detail, one for the request and one for the response, because rules may set them
separately.
"""

from __future__ import annotations

import msgspec

from ..settings import Settings

__all__ = ["Decision", "decide"]


class Decision(msgspec.Struct, frozen=True):
    """Each level is `none`, `metadata`, `headers` or `bodies`."""

    request: str
    response: str
    excluded: bool  # nothing is recorded: the exchange is counted and gets no sequence


def decide(settings: Settings) -> Decision:
    return Decision(settings.detail, settings.detail, settings.detail == "none")
