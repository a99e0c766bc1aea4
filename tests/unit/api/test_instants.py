"""Instants as text."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from asgi_audit.api.instants import text_of_ms


def test_text_is_what_the_calendar_says() -> None:
    rng = random.Random(7)
    for ms in [0, 999, 59_999, 60_000, 1_709_164_800_000, *(rng.randrange(253_402_300_800_000) for _ in range(2_000))]:
        expected = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}"
        assert text_of_ms(ms) == expected + "Z"
        assert text_of_ms(ms, "+00:00") == expected + "+00:00"


@pytest.mark.parametrize("ms", [253_402_300_799_999, 253_402_300_800_000, 1 << 62])
def test_text_is_the_last_instant_of_9999_when_later(ms: int) -> None:
    assert text_of_ms(ms) == "9999-12-31T23:59:59.999Z"
