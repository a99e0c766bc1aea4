"""Data of clients cannot control a terminal, and printed JSON keeps its meaning."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cli.test_tail import START, record, write

from asgi_audit.cli import COMMANDS, main, terminal
from asgi_audit.cli.logs import JsonFormatter, TextFormatter
from asgi_audit.record.ids import new_process
from asgi_audit.settings import make_settings

BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
STEERING = [
    c
    for c in map(chr, range(0x11_0000))
    if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t")
    or unicodedata.bidirectional(c) in BIDIRECTIONAL
    or c in "\u200e\u200f\u061c"
]
EVIL = "\x1b[2J\x9b31m\x9d0;owned\x9c\x7f\x08\r\u202egnp.exe\u2066\u2028\u2029\u200f\ud800"


def is_harmless(text: str) -> bool:
    return not set(text) & set(STEERING)


def test_every_steering_character_is_escaped_and_ordinary_text_is_not() -> None:
    assert [c for c in STEERING if terminal.escaped(c) == c] == []
    for text in ("é ß 日本語 👩‍👩‍👧 שלום\tx\n", "→ · …"):
        assert terminal.escaped(text) == text


@given(st.text(st.sampled_from(STEERING + list('a"\\\n\t é😀'))))
def test_json_stays_valid_and_equal_when_escaped(text: str) -> None:
    line = json.dumps({"a": text}, ensure_ascii=False)
    assert is_harmless(terminal.escaped(line))
    # A pair of surrogates in a Python string is one character in JSON.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(terminal.escaped(line))["a"].encode("utf-16", "surrogatepass") == whole.encode(
        "utf-16", "surrogatepass"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_stream_writes_what_its_encoding_lacks_as_json_escapes(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding, newline=""))
    with terminal.guarded():
        print(json.dumps("é€😀" + EVIL, ensure_ascii=False), flush=True)
    shown = buffer.getvalue().decode(encoding)
    assert is_harmless(shown)
    assert json.loads(shown) == "é€😀" + EVIL


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_tail_shows_no_steering_character(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads(record(new_process(START), 1))
    evil = EVIL.replace("\ud800", "")  # no record contains it: it is not UTF-8
    whole["request"]["path"] = whole["request"]["originalUrl"] = "/" + evil
    whole["request"]["headers"] = {"user-agent": evil}
    whole["response"]["body"] = evil
    process = new_process(START)
    whole["context"] = {
        "capture": {"process": str(process), "sequence": 1}, "message": evil, "route": evil, "principal": evil,
    }  # fmt: skip
    settings = make_settings({}, home=tmp_path)
    write(settings, process, [json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()])
    assert main(["tail", "--home", str(tmp_path), *flags]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert is_harmless(out)
    if flags:
        assert json.loads(out)["response"]["body"] == evil


@pytest.mark.parametrize("command", COMMANDS)
def test_argument_of_a_command_steers_no_terminal_when_refused(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Refused by the parser or, where it is a path (`backup`, `restore`), by the command."""
    for arguments in (["--home", str(tmp_path), EVIL], ["--home", str(tmp_path), "--nonsense", EVIL], None):
        with contextlib.suppress(SystemExit):
            assert main([EVIL] if arguments is None else [command, *arguments]) in (1, 2)
        shown = capsys.readouterr()
        assert is_harmless(shown.err + shown.out)
        assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("formatter", [TextFormatter("%(message)s"), JsonFormatter()])
def test_log_line_is_one_line_without_password(formatter: logging.Formatter) -> None:
    given: Any = ("a\nb\rc kafka://u:s3cret@h/t",)
    line = formatter.format(logging.LogRecord("x", logging.WARNING, "f", 1, "%s", given, None))
    assert len(line.splitlines()) == 1
    assert "s3cret" not in line


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_command_runs_when_its_output_is_closed(closed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`asgi-audit … >&-`: Python then has no `sys.stdout`."""
    for name in ("stdout", "stderr"):
        if closed in (name, "both"):
            monkeypatch.setattr(sys, name, None)
    assert main(["keys", "create", "--home", str(tmp_path), "--role", "reader", "--account", "acme"]) == 0
    assert main(["keys", "list", "--home", str(tmp_path / "none")]) == 2
