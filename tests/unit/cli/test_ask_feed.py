"""The cursor file of `ask feed`, and its flags. Its output is tested in `e2e/test_ask_feed.py`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from asgi_audit.cli import main
from asgi_audit.cli.ask import feed
from asgi_audit.cli.ask.feed import CursorFile
from asgi_audit.client import questions
from asgi_audit.client.flows import Call, Item, Reply
from asgi_audit.errors import ConfigError


def test_cursor_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "cursor")
    assert file.read() is None
    for text in ("one", "two"):
        file.write(text)
        assert file.read() == text
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["cursor"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_cursor_stays_as_it_was_when_a_step_fails(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or a kill: a leftover temporary file does not prevent the next write."""
    file = CursorFile(tmp_path / "cursor")
    file.write("one")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(feed.os, step, fail)
        with pytest.raises(OSError, match="No space"):
            file.write("two")
    assert file.read() == "one"
    file.write("three")
    assert file.read() == "three"


@pytest.mark.parametrize("text", ["", "\n", "two words", "two\nlines", "\u00e9", "x" * 5000])
def test_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    file = CursorFile(tmp_path / "notes.txt")
    file.path.write_text(text)
    with pytest.raises(ConfigError, match=r"notes\.txt contains no cursor"):
        file.read()
    assert file.path.read_text() == text


def test_place_that_cannot_be_written_is_said_before_a_record_is_read(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"--cursor: .*nowhere/cursor\.lock cannot be made"),
        CursorFile(tmp_path / "nowhere" / "cursor").locked(),
    ):
        pass
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "link.lock").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError), CursorFile(tmp_path / "link").locked():
        pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["feed", "--csv"], "ask feed takes no --csv; accepted: --json, --curl, --follow, --cursor, --after and -n"),
        (["feed", "--status", "404"], "ask feed takes no --status; accepted: --since, --start"),
        (["trail", "--cursor", "x"], "ask trail takes no --cursor; accepted: --json, --curl and -n"),
        (["feed", "word"], "ask feed has 1 words; accepted: no words"),
    ],
)
def test_flags_of_other_questions_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", *arguments, "--url", "http://127.0.0.1:9"]) == 2
    assert said in capsys.readouterr().err


def test_request_is_shown_as_a_curl_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "feed", "--after", "abc", "--curl", "--url", "http://127.0.0.1:9"]) == 0
    assert "'http://127.0.0.1:9/feed?after=abc'" in capsys.readouterr().out


def test_line_of_a_record_ends_at_a_newline_and_nowhere_else() -> None:
    """U+2028 and U+0085 may occur unchanged in the text of a record."""
    lines = ['{"a":"x\u2028y\u0085z"}', '{"b":1}']
    reply = Reply(200, {"audit-cursor": "c", "audit-more": "false"}, "".join(f"{x}\n" for x in lines).encode())
    asked = questions.feed_lines("b", None, False, None)
    assert isinstance(next(asked), Call)
    step = asked.send(reply)
    assert step == Item(questions.FeedLines(lines, "c"))
    listed = questions.lines({}, questions.NDJSON, None)
    next(listed)
    assert [listed.send(Reply(200, {}, reply.content)), next(listed)] == [Item(line) for line in lines]
