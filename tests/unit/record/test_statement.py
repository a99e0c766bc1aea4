"""Which bytes are valid statements."""

from __future__ import annotations

import json

import pytest

from asgi_audit.errors import RecordError
from asgi_audit.record.statement import OpenOf, Statement, decode_statement, encode_statement

SAID = Statement(process="p", number=1, at=5, first=1, last=0, count=0, watermark=5, open_count=4, open_long=3)


def test_statement_of_version_0_1_0_is_read_when_it_names_no_accounts() -> None:
    wire = json.loads(encode_statement(SAID))
    del wire["open_accounts"]
    assert decode_statement(json.dumps(wire).encode()) == SAID


@pytest.mark.parametrize(("closed", "count", "good"), [("", 3, True), ("", 4, False), ("final", 4, True)])
def test_statement_is_refused_when_it_names_more_than_are_open(closed: str, count: int, good: bool) -> None:
    wire = json.loads(encode_statement(SAID)) | {"closed": closed, "open_accounts": [["a", 1], ["b", count - 1]]}
    data = json.dumps(wire).encode()
    if good:
        assert decode_statement(data).open_accounts == [OpenOf("a", 1), OpenOf("b", count - 1)]
    else:
        with pytest.raises(RecordError, match="open_accounts"):
            decode_statement(data)
