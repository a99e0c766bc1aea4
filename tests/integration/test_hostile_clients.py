"""Hostile clients against the installed `serve`, over sockets: others are served, memory is bounded, it ends.

Small by default; `ASGI_AUDIT_TEST_HOSTILE=full` uses the promised numbers (280 connections; 1,200 that send nothing,
with 256 descriptors). `python -m tests.bench.hostile` measures waiting times; they are not asserted here, because other
programs may use the processor.
"""

from __future__ import annotations

import math
import os

import pytest
from tests.bench.hostile import KINDS, measure

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

FULL = os.environ.get("ASGI_AUDIT_TEST_HOSTILE") == "full"
RSS_MAX = 288 << 20  # idle it takes 64 MiB, of which the models of the API are 20
DESCRIPTORS = 256


@pytest.mark.parametrize("kind", KINDS)
def test_others_are_answered_and_memory_is_bounded_whatever_clients_do(kind: str) -> None:
    figures = measure(kind, 280 if FULL else 80, 15 if FULL else 4)
    assert figures.page
    assert figures.failed == []
    assert figures.rss < RSS_MAX
    assert figures.log_lines < 50
    assert math.isfinite(figures.ended), "the clients, who stay, keep it from ending"


def test_others_are_answered_when_silent_clients_take_more_connections_than_there_are_descriptors() -> None:
    figures = measure("silent", 1_200 if FULL else 300, 15 if FULL else 4, DESCRIPTORS)
    assert figures.live
    assert figures.failed == []
    assert figures.open < DESCRIPTORS
    assert figures.log_lines < 50


def test_silent_clients_are_closed_in_bounded_time() -> None:
    """There is enough room, so no connection is closed to make room."""
    assert measure("silent-once", 20, 100).open == 0
