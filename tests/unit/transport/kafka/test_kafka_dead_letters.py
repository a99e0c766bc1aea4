"""The forwarder's local dead letters, and loss entries."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from asgi_audit.errors import RecordError
from asgi_audit.record.loss import Loss, decode_loss, encode_loss, is_loss
from asgi_audit.transport.kafka.dead_letters import DeadLetters


def _write(letters: DeadLetters, entry: bytes, sequence: int = 1) -> bool:
    return letters.write(at=1, process="p", sequence=sequence, kind="record", reason="too large", entry=entry)


def test_dead_letter_is_one_line_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "dead")
    assert _write(letters, '{"ä":"\n"}'.encode())
    assert _write(letters, b"\xff\x00")
    first, second = (json.loads(line) for line in letters.path.read_text().splitlines())
    assert first["text"] == '{"ä":"\n"}'
    assert base64.b64decode(second["base64"]) == b"\xff\x00"
    assert stat.S_IMODE(letters.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(letters.path.parent.stat().st_mode) == 0o700


def test_dead_letters_are_bounded_when_they_are_many(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, bytes_max=10_000)
    whole = [_write(letters, b"x" * 1000, n) for n in range(1, 1001)]
    assert letters.path.stat().st_size <= 2 * 10_000 + 1200
    lines = [json.loads(line) for line in letters.path.read_text().splitlines()]
    assert any("text" not in line for line in lines)
    assert sum(whole) == sum("text" in line for line in lines)


@pytest.mark.parametrize("size", [0, 5])
def test_dead_letters_never_raise_when_the_disk_is_full(tmp_path: Path, size: int) -> None:
    def no_space(path: Path, flags: int) -> int:
        raise OSError(28, "No space left on device")

    letters = DeadLetters(tmp_path, opener=no_space)
    assert not _write(letters, b"x" * size)
    assert letters.written == 0


def test_dead_letters_follow_no_link_that_somebody_put_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    os.symlink(target, tmp_path / "refused.jsonl")
    letters = DeadLetters(tmp_path)
    assert not _write(letters, b"x")
    assert not target.exists()


def test_loss_entry_is_one_line_and_reads_back() -> None:
    loss = Loss(process="p", sequence=7, at=1, reason="refused", leaf="00" * 32, bytes=12, detail="MessageSizeTooLarge")
    data = encode_loss(loss)
    assert data.startswith(b'{"loss":"1.0"')
    assert is_loss(data)
    assert b"\n" not in data
    assert decode_loss(data) == loss


@pytest.mark.parametrize("data", [b"", b"{}", b'{"loss":"2.0"}', b'{"loss":"1.0"}', b"\xff"])
def test_loss_entry_is_refused_when_it_is_none(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode_loss(data)
