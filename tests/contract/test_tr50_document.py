"""`docs/tr50.md` is true: each request of its table is sent, and the response compared with the one beside it, name by
name and type by type. `…` stands for any text, `[…]` for any array."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import foreign
from tests.unit.api.test_tr50 import Tr50

DOCUMENT = (Path(__file__).parents[2] / "docs" / "tr50.md").read_text("utf-8")
JANUARY_MS = 1_389_787_200_000  # 2014-01-15T12:00:00Z


def rows() -> list[tuple[str, str]]:
    """The table's rows: JSON of the request, and of the first response beside it."""
    table = DOCUMENT.split("## Documented requests")[1].split("\n## ")[0]
    found = []
    before = ""
    for line in table.splitlines():
        request, _, answer = line.strip("| ").partition(" | ")
        asked, answered = re.match(r"`(\{.*?\})`", request), re.search(r"`(\{.*?\})`", answer)
        if asked is not None:
            before = answered[1] if answered is not None else before  # "the same"
            found.append((asked[1], before))
    return found


def same(documented: Any, given: Any) -> bool:
    if isinstance(documented, dict):
        assert isinstance(given, dict), (documented, given)
        assert list(documented) == list(given), (documented, given)
        return all(same(value, given[name]) for name, value in documented.items())
    if isinstance(documented, str) and "…" in documented:
        pattern = ".*".join(re.escape(part) for part in documented.split("…"))
        assert re.fullmatch(pattern, given), (documented, given)
        return True
    assert type(documented) is type(given), (documented, given)
    return isinstance(documented, list | int) or documented == given


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Tr50]:
    made = Tr50(tmp_path, clock=lambda: JANUARY_MS / 1000 + 60)
    made.add(foreign(JANUARY_MS))
    yield made
    made.close()


def test_table_has_every_command_and_every_documented_request() -> None:
    requests = " ".join(request for request, _ in rows())
    for command in ("usage.api.list", "api.authenticate", "diag.ping", "session.info", "session.end"):
        assert f'"{command}"' in requests
    assert '"start":"2014-01-01T00:00:00Z"' in requests
    assert '"last":"10h"' in requests


@pytest.mark.parametrize(("request_", "answer"), rows(), ids=[str(n) for n in range(len(rows()))])
def test_request_is_answered_as_the_document_says(api: Tr50, request_: str, answer: str) -> None:
    body = json.loads(request_.replace("KEY", api.auditor).replace('"sessionId":"…"', f'"sessionId":"{api.session()}"'))
    headers = {} if "auth" in body else {"X-API-Key": api.auditor}
    assert same(json.loads(answer.replace("[…]", "[]")), api.call(body, headers))
