"""A small Source: lists per partition, trimmed by commit, with faults that the test sets."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from asgi_audit.transport.base import Fence, Kind, Message, Polled, Position, SourceIncident, digest_of
from asgi_audit.transport.fences import boot_seconds


class ListSource:
    """`name` is the store's source. `fail`: exceptions that the next polls raise, in order; likewise `fail_commit`."""

    name = "test"

    def __init__(self) -> None:
        self.entries: dict[str, list[Message]] = {}
        self.at: dict[str, int] = {}
        self.committed: dict[str, Position] = {}
        self.opened: dict[str, Position] | None = None
        self.damaged: list[tuple[str, int, str, bytes]] = []
        self.ended: list[str] = []  # partitions that the next commit returns as gone
        self.fail: list[Exception] = []
        self.fail_commit: list[Exception] = []
        self.polls: list[int] = []
        self.now = time.time
        self.fences = True  # whether a poll that leaves nothing waiting returns a fence
        self.made: float | None = None
        self.ignored: list[str] = []
        self.holds: dict[str, str] | None = {}
        self.recovered: list[str] = []
        self.incidents: list[SourceIncident] = []  # returned by the next `take_incidents`

    def put(self, partition: str, kind: Kind, sequence: int, payload: bytes) -> None:
        kept = self.entries.setdefault(partition, [])
        at = kept[-1].next if kept else 0
        kept.append(Message(partition, at, at + 1, kind, sequence, payload))

    def open(self, positions: Mapping[str, Position]) -> None:
        self.opened = dict(positions)
        self.at = {p: position.next for p, position in positions.items()}

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        if self.fail:
            raise self.fail.pop(0)
        self.polls.append(messages_max)
        fence = Fence(self.now(), boot_seconds(), "")
        found: list[Message] = []
        positions: dict[str, Position] = {}
        for partition, entries in self.entries.items():
            at = self.at.get(partition, 0)
            taken = entries[at : at + messages_max - len(found)]
            if taken:
                found += taken
                self.at[partition] = taken[-1].next
                positions[partition] = Position(taken[-1].next, digest_of(taken[-1].payload))
        waiting = any(self.at.get(p, 0) < len(e) for p, e in self.entries.items())
        damaged, self.damaged = self.damaged, []
        if not found and not damaged:
            time.sleep(min(timeout_seconds, 0.002))
        passed = fence if self.fences and not waiting else None
        return Polled(found, positions, waiting, passed, damaged, holds=self.holds, recovered=self.recovered)

    def made_at(self) -> float | None:
        return self.made

    def ignore(self, partitions: Collection[str]) -> None:
        self.ignored = list(partitions)

    def take_incidents(self) -> Sequence[SourceIncident]:
        taken, self.incidents = self.incidents, []
        return taken

    def measures(self) -> Mapping[str, float]:
        return {}

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        if self.fail_commit:
            raise self.fail_commit.pop(0)
        self.committed.update(positions)
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass
