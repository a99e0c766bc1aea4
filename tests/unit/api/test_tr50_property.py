"""Any JSON sent to `POST /api` gets one response that parses, with each command under its id or an error at the root,
never an internal error; afterwards nothing is in flight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.api.test_tr50 import Tr50, seed

NAMES = ["command", "Command", "params", "PARAMS", "sessionId", "auth", "Auth", "1", "list", "who", "service", "limit",
         "offset", "last", "start", "end", "hasFailure", "showAll", "password", "id", ""]  # fmt: skip
COMMANDS = ["usage.api.list", "api.authenticate", "diag.ping", "session.info", "session.end", "thing.find", ""]
WORDS = [*COMMANDS, "24h", "-1h", "2024-01-01T00:00:00Z", "app", "\ud800", "é"]

leaves = st.none() | st.booleans() | st.integers(-5, 3_000) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
params = st.dictionaries(st.sampled_from(NAMES[9:]), leaves, max_size=4)
commands = st.fixed_dictionaries(
    {"command": st.sampled_from(COMMANDS) | values},
    optional={"params": params | values, "SessionId": leaves},
)
bodies = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), commands | values, max_size=6)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tr50]:
    made = Tr50(tmp_path_factory.mktemp("api"))
    seed(made, 3)
    yield made
    made.close()


def is_failure(answer: Any) -> bool:
    return (
        answer.keys() == {"success", "errorCodes", "errorMessages"}
        and answer["success"] is False
        and all(isinstance(code, int) and code < 0 and code != -5 for code in answer["errorCodes"])
        and len(answer["errorCodes"]) == len(answer["errorMessages"]) == 1
    )


@pytest.mark.parametrize("with_key", [True, False])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies | values)
def test_any_json_gets_one_answer_in_the_shape_of_the_protocol(api: Tr50, with_key: bool, body: Any) -> None:
    headers = {"X-API-Key": api.auditor} if with_key else {}
    answer = api.post(body, headers)
    given_ids = list(json.loads(json.dumps(body))) if isinstance(body, dict) else []
    assert answer.status_code in ((200,) if with_key else (200, 429)), answer.text
    said = answer.json()
    assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)
    if is_failure(said):
        return
    assert with_key, "without a key there is no answer"
    assert set(said) <= set(given_ids)
    for id, one in said.items():
        assert is_failure(one) or one["success"] is True, (id, one)
