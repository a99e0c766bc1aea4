"""Random histories of processes, hosts, brokers, clocks, kills and late journals, checked by an oracle that knows them.

Method: a seeded world takes random turns; after each commit of the indexer the oracle checks every exchange
(safety). Then brokers respond, clocks are right and every journal is read, and T must advance to the end
(liveness). A failure prints its seed. Every run takes a few worlds; `python -m tests.completeness_worlds` takes
thousands."""

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
    """Tests the oracle: without the rule it must find a violation soon."""
    monkeypatch.setattr("asgi_audit.store.state.MARGIN_MS", -60_000)
    with pytest.raises(AssertionError):
        some_worlds(seed)


def some_worlds(seed: int) -> None:
    for n in range(seed, seed + 200):
        run(n, 200)
