"""Invalid statements and loss entries: always a RecordError that names the expected kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_audit.errors import RecordError
from asgi_audit.record.loss import decode_loss
from asgi_audit.record.statement import decode_statement

STATEMENT = b'{"statement":"%s","process":"p","number":1,"at":1,"first":1,"last":1,"count":1,"watermark":1}'
LOSS = b'{"loss":"%s","process":"p","sequence":1,"at":1,"reason":"refused","leaf":"' + b"0" * 64 + b'","bytes":1}'


@pytest.mark.parametrize(
    ("decode", "good", "what"), [(decode_statement, STATEMENT, "statement"), (decode_loss, LOSS, "loss entry")]
)
def test_line_is_refused_by_name_when_it_is_none(decode: Callable[[bytes], Any], good: bytes, what: str) -> None:
    assert decode(good % b"1.7").version == "1.7"
    with pytest.raises(RecordError, match=f"{what} version is '2.0'"):
        decode(good % b"2.0")
    # The last one would end the indexer if it were not caught: the parser's stack is bounded.
    for poison in (b"", b"\xff", b"[]", good[:-2] + b'"\xff"}', b'{"x":' + b"[" * 100_000):
        with pytest.raises(RecordError, match=f"not a {what}"):
            decode(poison)
