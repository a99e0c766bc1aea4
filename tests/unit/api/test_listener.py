"""Which connection is closed when the limit is reached, and which ones are overdue. Objects with the attributes that
the listener reads stand in for connections."""

from __future__ import annotations

from typing import Any, cast

import pytest

from asgi_audit.api import listener as module
from asgi_audit.api.connection import Connection, Phase
from asgi_audit.api.listener import SETTLE_SECONDS, Listener, connections_max


class Open:
    """An open connection, with the attributes that the listener reads."""

    def __init__(self, name: str, phase: Phase, since: float, address: str = "10.0.0.1", *, slow: bool = False) -> None:
        self.name, self.phase, self.since, self.address, self.is_reading_slowly = name, phase, since, address, slow
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_overdue(self, now: float) -> bool:
        return now - self.since > 10

    def __repr__(self) -> str:
        return self.name


NOW = 1_000.0
HEAD, BODY, ANSWER, SEND = Phase.HEAD, Phase.BODY, Phase.ANSWER, Phase.SEND


def evicted(*connections: Open) -> list[str]:
    """The names of all connections that the listener evicts, in the order of eviction."""
    listener = Listener(lambda _: cast(Any, None), most=1, monotonic=lambda: NOW)
    for connection in connections:
        listener.made(cast(Connection, connection))
    left, order = list(connections), []
    while listener._evict():
        gone = next(c for c in left if c.aborted)
        left.remove(gone)
        order.append(gone.name)
    assert not any(c.aborted for c in left)
    return order


def test_evicts_the_oldest_of_the_address_with_the_most_connections() -> None:
    assert evicted(
        Open("alone, oldest", HEAD, NOW - 9, "10.0.0.2"),
        Open("many, second", HEAD, NOW - 3),
        Open("many, first", HEAD, NOW - 4),
        Open("many, third", HEAD, NOW - 2),
    ) == ["many, first", "many, second", "alone, oldest", "many, third"]


def test_evicts_who_sends_nothing_before_who_is_in_the_middle_of_something() -> None:
    assert evicted(
        Open("body", BODY, NOW - 9),
        Open("reads slowly", SEND, NOW - 8, slow=True),
        Open("sends nothing", HEAD, NOW - 1, "10.0.0.2"),
    ) == ["sends nothing", "body", "reads slowly"]


def test_evicts_nobody_who_waits_for_us_or_reads_as_fast_as_we_send() -> None:
    assert evicted(Open("answer", ANSWER, NOW - 50), Open("reads", SEND, NOW - 50)) == []


def test_evicts_nobody_who_had_no_time_to_send_a_request() -> None:
    assert evicted(Open("new", HEAD, NOW - SETTLE_SECONDS / 2)) == []
    assert evicted(Open("settled", HEAD, NOW - 2 * SETTLE_SECONDS)) == ["settled"]


@pytest.mark.parametrize(("soft", "most"), [(64, 16), (256, 106), (1_024, 512), (module.resource.RLIM_INFINITY, 512)])
def test_connections_max_leaves_descriptors_for_the_index(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: (soft, soft))
    assert connections_max() == most
