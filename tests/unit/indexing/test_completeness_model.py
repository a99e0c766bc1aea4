"""Random histories of processes, hosts, brokers, clocks, kills and late journals, against an oracle that knows them.

Method: a seeded world takes random turns; after each commit of the indexer the oracle looks at every exchange (Safety).
Then brokers answer, clocks are right and every journal turns up, and T must arrive (Liveness). A failure names its
seed. Every run takes a few worlds; `python -m tests.completeness_worlds` takes thousands."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.completeness_worlds import run


@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(10, 300))
@example(seed=1, turns=300)
def test_completeness_is_never_beyond_the_truth_and_gets_there(seed: int, turns: int) -> None:
    print(f"seed {seed}, turns {turns}")
    run(seed, turns)


@pytest.mark.parametrize("seed", [7])
def test_oracle_complains_when_the_margin_is_taken_away(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle itself: without the rule it must find something soon."""
    monkeypatch.setattr("asgi_audit.store.state.MARGIN_MS", -60_000)
    with pytest.raises(AssertionError):
        some_worlds(seed)


def some_worlds(seed: int) -> None:
    for n in range(seed, seed + 200):
        run(n, 200)
