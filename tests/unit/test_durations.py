"""Durations in Go's grammar. The table is that of Go's own tests (time/time_test.go, parseDurationTests) without
negative values, and with our additions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_audit.durations import PATTERN, TEXT_MAX, duration_ns

S = 10**9
GOOD = {
    "0": 0, "5s": 5 * S, "30s": 30 * S, "1478s": 1478 * S, "+5s": 5 * S, "+0": 0,
    "5.0s": 5 * S, "5.6s": 5_600_000_000, "5.s": 5 * S, ".5s": 500_000_000, "1.0s": S, "1.00s": S,
    "1.004s": 1_004_000_000, "1.0040s": 1_004_000_000, "100.00100s": 100_001_000_000,
    "10ns": 10, "11us": 11_000, "12µs": 12_000, "12μs": 12_000, "13ms": 13_000_000, "14s": 14 * S, "15m": 900 * S,
    "16h": 57_600 * S, "3h30m": 12_600 * S, "10.5s4m": 250_500_000_000, "1h2m3s4ms5us6ns": 3_723_004_005_006,
    "39h9m14.425s": 140_954_425_000_000, "52763797000ns": 52_763_797_000, "0.3333333333333333333h": 1200 * S - 1,
    "9223372036854775807ns": (1 << 63) - 1, "9223372036854775.807us": (1 << 63) - 1, "9223372036s854ms775us807ns":
    (1 << 63) - 1, "0.100000000000000000000h": 360 * S, "0.830103483285477580700h": 2_988_372_539_827,
    "7d": 604_800 * S, "1.5d": 129_600 * S, "1d12h": 129_600 * S, "0s": 0, "0d": 0,
}  # fmt: skip
BAD = (
    "", "3", "-", "s", ".", "-.", ".s", "+.s", "1d1", "+", "+-5s", "--5s", "++5s", "-5s", "-1h", "-0", "- 5s", "1 h",
    " 1h", "1h ", "1h 30m", "1w", "1y", "1M", "1H", "1D", "24 hours", "1e3s", "1_000s", "0x1s", "1,5h", "١s", "1h\n",
    "1" * 300 + "s", "1ſ", "\ud800s",
)  # fmt: skip


@pytest.mark.parametrize(("text", "ns"), GOOD.items(), ids=list(GOOD))
def test_duration_is_what_go_reads(text: str, ns: int) -> None:
    # Go adds fractions of a nanosecond in floating point: one of its cases differs by 1 ns.
    assert abs(duration_ns(text) - ns) <= (1 if "." in text else 0)


@pytest.mark.parametrize("text", BAD, ids=ascii)
def test_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        duration_ns(text)


@given(st.text(alphabet="0123456789.hmsdnuµ+- ", max_size=12) | st.text(max_size=8))
def test_no_other_error_and_never_negative(text: str) -> None:
    try:
        assert duration_ns(text) >= 0
    except ValueError:
        pass


TOO_MUCH = ("9223372036854775808ns", "9223372036854775.808us", "3000000h", "200000d", "1" * (TEXT_MAX - 1) + "s")


@pytest.mark.parametrize("text", TOO_MUCH)
def test_more_than_go_holds_counts_as_the_most(text: str) -> None:
    assert duration_ns(text) == (1 << 63) - 1


@pytest.mark.parametrize("text", [*GOOD, *BAD, *TOO_MUCH])
def test_pattern_and_length_of_the_schema_say_the_same(text: str) -> None:
    said = re.fullmatch(PATTERN[1:-1], text) is not None and len(text) <= TEXT_MAX
    assert said == (text in GOOD or text in TOO_MUCH)
