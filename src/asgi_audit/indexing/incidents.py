"""The incidents that changed since the last write, and the numbering of new ones."""

from __future__ import annotations

import uuid
from typing import Literal

from ..store.state import NO_PROCESS, Incident

__all__ = ["IncidentKind", "Incidents"]

IncidentKind = Literal["missing", "gap", "silent", "late", "unproven", "altered"]
SourceIncidentKind = Literal["retention_passed", "topic_recreated", "partition_lost"]


class Incidents:
    """`now`: the indexer's clock (ms), set before anything is noted. `refused`: how many loss entries came since the
    last write."""

    def __init__(self, last: int = 0) -> None:
        self.now = 0
        self.refused = 0
        self._last = last
        self._changed: dict[int, Incident] = {}

    def open(
        self,
        process: bytes,
        kind: IncidentKind,
        start: int,
        end: int | None,
        detail: str,
        ranges: list[tuple[int, int]] | None = None,
        count: int = 0,
    ) -> Incident:
        self._last += 1
        incident = Incident(
            id=self._last, kind=kind, process=uuid.UUID(bytes=process), opened_at=self.now, start=start, end=end,
            ranges=ranges or [], count=count, detail=detail,
        )  # fmt: skip
        self.changed(incident)
        return incident

    def of_source(self, kind: SourceIncidentKind, at: int, start: int, detail: str) -> None:
        """Open an incident of the source itself: of exchanges that began from `start` (ms) until it was noticed, `at`
        (ms)."""
        self._last += 1
        self.changed(
            Incident(
                id=self._last, kind=kind, process=NO_PROCESS, opened_at=at, start=min(start, at),
                end=at + 1, detail=detail,
            )
        )  # fmt: skip

    def changed(self, incident: Incident) -> None:
        self._changed[incident.id] = incident

    def resolve(self, incident: Incident) -> None:
        incident.resolved_at = self.now
        self.changed(incident)

    def taken(self) -> tuple[list[Incident], int]:
        """The incidents that the next write must store, and `refused`. Both are empty after that."""
        incidents, self._changed = list(self._changed.values()), {}
        refused, self.refused = self.refused, 0
        return incidents, refused
