"""`docs/asking.md` is true: each request in it is sent as it is written there, and the loop over the feed is run."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import DAY_MS, Api
from tests.support.records import foreign

from asgi_audit.api.dialects import feed, records
from asgi_audit.api.filters import Filters
from asgi_audit.cli import _parser

DOCUMENT = (Path(__file__).parents[2] / "docs" / "asking.md").read_text("utf-8")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, clock=lambda: DAY_MS / 1000 + 60)
    made.add(
        foreign(DAY_MS, account="beta", name="a", principal="alice", method="DELETE", path="/orders/7", status=204),
        foreign(DAY_MS - 1, account="beta", name="b", principal="alice", method="DELETE", path="/orders/8", status=401),
    )
    yield made
    made.close()


def requests() -> list[tuple[str, str]]:
    """Returns (the command, its response, '' where that is not shown)."""
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) if block.startswith("curl")]
    return [(command, shown.removeprefix("# ")) for command, _, shown in (b.strip().partition("\n") for b in blocks)]


def send(api: Api, command: str) -> httpx.Response:
    words = shlex.split(command.replace("$KEY", api.beta).replace("$ID", "a"))
    assert words[:2] == ["curl", "-s"]
    headers = dict(words[n + 1].split(": ") for n, word in enumerate(words) if word == "-H")
    return Client(api).get(words[2].removeprefix("localhost:8400"), headers=headers)


class Client:
    """Like httpx.Client, over the application."""

    def __init__(self, api: Api, key: str | None = None) -> None:
        self._api = api
        self._key = key

    def get(self, path: str, **given: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            async with self._api.client(self._key) as client:
                return await client.get(path, **given)

        return asyncio.run(run())


@pytest.mark.parametrize(("command", "shown"), requests(), ids=[c.split("8400")[1][:20] for c, _ in requests()])
def test_request_is_answered_as_the_document_says(api: Api, command: str, shown: str) -> None:
    answer = send(api, command)
    assert answer.status_code == 200, answer.text
    if not shown:
        return
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    assert re.fullmatch(pattern, answer.text), answer.text


def test_commands_have_these_flags() -> None:
    """Their effects are tested in `e2e/test_ask_feed.py`."""
    commands = re.findall(r"^asgi-audit (ask [^|>#\n]*)", DOCUMENT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert _parser("ask").parse_args(shlex.split(command)).what == "feed"


def test_every_face_has_a_request() -> None:
    asked = " ".join(command for command, _ in requests())
    for face in ("/records?", "/records/$ID", "/histogram?", "/feed?"):
        assert face in asked


def test_table_has_every_filter() -> None:
    table = DOCUMENT.split("| parameter | records |")[1].split("\n\n")[0]
    named = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named == set(Filters.model_fields)


def test_bounds_are_those_of_the_code() -> None:
    assert f"`limit` is 1 to {records.LIMIT_MAX} ({records.LIMIT_DEFAULT})" in DOCUMENT
    assert f"`limit` is 1 to {feed.LIMIT_MAX:,} ({feed.LIMIT_DEFAULT})" in DOCUMENT


def test_loop_over_the_feed_gives_every_record_once_and_ends_where_nobody_can_go_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert source is not None
    scope: dict[str, Any] = {}
    exec(source[1].replace('"wait": 30', '"wait": 0, "limit": 1'), scope)
    stored: list[str] = []

    def store(given: list[Any], cursor: str) -> None:
        stored.extend(r["metadata"]["id"] for r in given)

    client = Client(api, api.beta)
    cursor = scope["follow"](client, "", store)
    assert sorted(stored) == ["a", "b"]
    api.add(foreign(DAY_MS - 1, account="beta", name="late"))
    cursor = scope["follow"](client, cursor, store)
    assert stored[2:] == ["late"]
    api.store.generation += 1
    with pytest.raises(SystemExit, match="restored"):
        scope["follow"](client, cursor, store)
