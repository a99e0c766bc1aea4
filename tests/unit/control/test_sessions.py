"""Sessions: issued for a key, stored hashed, ended a day after their last use or with their key, bounded in
number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.support.waiting import until

from asgi_audit.control import Control
from asgi_audit.control.sessions import SESSION_SECONDS, SESSIONS_MAX
from asgi_audit.errors import StoreError


class Clock:
    now = 1_704_100_000.0
    monotonic = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control(tmp_path: Path, clock: Clock) -> Iterator[Control]:
    made = _opened(tmp_path, clock)
    yield made
    made.close()


def _opened(directory: Path, clock: Clock) -> Control:
    return Control(directory / "control.db", clock=lambda: clock.now, monotonic=lambda: clock.monotonic)


def test_session_allows_what_its_key_does(control: Control, clock: Clock) -> None:
    key_id, _ = control.create_key("auditor", ["b", "a"])
    text = control.sessions.open(key_id)
    assert 20 <= len(text) < 30  # an embedded client stores it in 30 characters
    clock.pass_by(5)
    found = control.sessions.find(text)
    assert found is not None
    assert (found.grant.key_id, found.grant.role, found.grant.accounts) == (key_id, "auditor", frozenset({"a", "b"}))
    assert found.created_ms == found.used_ms == 1_704_100_000_000
    again = control.sessions.find(text)
    assert again is not None
    assert again.used_ms == 1_704_100_005_000


def test_session_is_none_for_what_was_never_handed_out(control: Control) -> None:
    key_id, key = control.create_key("auditor", "*")
    text = control.sessions.open(key_id)
    for wrong in ("", text[:-1], text + "x", text.swapcase(), key, key_id, "x" * 10_000, "é", "\ud800", "\x00"):
        assert control.sessions.find(wrong) is None
        assert not control.sessions.end(wrong, key_id)


def test_file_holds_no_session_in_clear(control: Control) -> None:
    text = control.sessions.open(control.create_key("auditor", "*")[0])
    assert not any(text.encode() in p.read_bytes() for p in control.path.parent.iterdir())


def test_session_is_over_a_day_after_its_last_use_and_not_before(control: Control, clock: Clock) -> None:
    text = control.sessions.open(control.create_key("auditor", "*")[0])
    for seconds in (30, SESSION_SECONDS - 1, 1, SESSION_SECONDS - 1):
        clock.pass_by(seconds)
        assert control.sessions.find(text) is not None
    clock.pass_by(SESSION_SECONDS)
    assert control.sessions.find(text) is None
    assert control.sessions.find(text) is None  # a failed look-up is not a use


def test_use_is_known_to_another_process_and_survives_a_restart(tmp_path: Path, control: Control, clock: Clock) -> None:
    """Uses are written once a minute, by a thread, so the other process sees the second use here."""
    text = control.sessions.open(control.create_key("auditor", "*")[0])
    clock.pass_by(SESSION_SECONDS - 100)
    assert control.sessions.find(text) is not None
    control.close()  # writes the noted uses
    clock.pass_by(200)
    other = _opened(tmp_path, clock)
    found = other.sessions.find(text)
    other.close()
    assert found is not None
    assert found.used_ms == int(clock.now * 1000) - 200_000


def test_session_ends_with_its_key_at_once_when_another_process_revokes(tmp_path: Path, control: Control) -> None:
    key_id, _ = control.create_key("auditor", "*")
    text = control.sessions.open(key_id)
    other = Control(tmp_path / "control.db")
    other.revoke(key_id)
    other.close()
    assert control.sessions.find(text) is None
    # One that is opened at the same moment is not used either.
    assert control.sessions.find(control.sessions.open(key_id)) is None


def test_session_ends_when_its_own_key_ends_it(control: Control) -> None:
    key_id, _ = control.create_key("auditor", ["a"])
    other_id, _ = control.create_key("auditor", "*")
    text, stays = control.sessions.open(key_id), control.sessions.open(key_id)
    assert not control.sessions.end(text, other_id)
    assert control.sessions.find(text) is not None
    assert control.sessions.end(text, key_id)
    assert not control.sessions.end(text, key_id)
    assert control.sessions.find(text) is None
    assert control.sessions.find(stays) is not None


def test_one_key_has_a_bounded_number_and_the_one_not_used_for_longest_goes(control: Control, clock: Clock) -> None:
    key_id, _ = control.create_key("auditor", "*")
    other = control.sessions.open(control.create_key("auditor", "*")[0])
    texts = []
    for _ in range(SESSIONS_MAX):
        clock.pass_by(1)
        texts.append(control.sessions.open(key_id))
    clock.pass_by(1)
    assert control.sessions.find(texts[0]) is not None
    until(lambda: _stored(control, "used_ms = created_ms") == SESSIONS_MAX, "the use is written")
    new = control.sessions.open(key_id)
    assert control.sessions.find(texts[0]) is not None
    assert control.sessions.find(texts[1]) is None
    assert control.sessions.find(new) is not None
    assert control.sessions.find(other) is not None
    clock.pass_by(2 * SESSION_SECONDS)
    control.sessions.open(key_id)
    assert _stored(control, "1") == 1  # ended ones are deleted


def _stored(control: Control, where: str) -> int:
    connection = apsw.Connection(str(control.path))
    try:
        return int(connection.execute(f"SELECT count(*) FROM sessions WHERE {where}").get)
    finally:
        connection.close()


def test_many_threads_open_and_find(control: Control) -> None:
    key_id, _ = control.create_key("auditor", "*")
    seen: list[bool] = []

    def work() -> None:
        for _ in range(10):
            seen.append(control.sessions.find(control.sessions.open(key_id)) is not None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 80


def test_sessions_of_a_closed_control_are_a_store_error(control: Control) -> None:
    control.close()
    with pytest.raises(StoreError):
        control.sessions.find("x" * 22)
    with pytest.raises(StoreError):
        control.sessions.open("x")
