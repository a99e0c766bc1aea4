"""Ids and salts: their form, uniqueness, and new ones after fork."""

from __future__ import annotations

import os
import re
import uuid

from asgi_audit.record.ids import new_process, new_request_id, record_ids, started_ms, uuid7
from asgi_audit.record.line import TIME_END

MS = 1_795_348_800_123


def test_record_ids_carry_the_millisecond_and_are_uuids_of_version_7() -> None:
    variants = set()
    for ms in (0, 1, MS, (1 << 43) - 1):
        for _ in range(200):
            text, salt = record_ids(ms)
            made = uuid.UUID(text)
            assert str(made) == text
            assert made.version == 7
            assert made.variant == uuid.RFC_4122
            assert made.int >> 80 == ms
            assert re.fullmatch("[0-9a-f]{32}", salt)
            variants.add(text[19])
    assert variants == set("89ab")
    assert new_process(MS).version == 7


def test_ids_are_never_given_twice() -> None:
    made = [record_ids(MS) for _ in range(5_000)]
    made += [(uuid7(MS), new_request_id()) for _ in range(5_000)]
    assert len({text for text, _ in made}) == len({other for _, other in made}) == 10_000


def test_child_has_other_ids_when_forked_with_some_made_ahead() -> None:
    record_ids(MS), new_request_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, " ".join((*record_ids(MS), new_request_id())).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    assert len(theirs) == 3
    assert not set(theirs) & {*record_ids(MS), new_request_id()}


def test_process_says_when_it_began_when_it_is_a_uuid7_of_a_time_that_can_be_held() -> None:
    assert started_ms(new_process(1_795_000_000_000).bytes) == 1_795_000_000_000
    assert started_ms(new_process(0).bytes) == 0
    assert started_ms(new_process(TIME_END - 1).bytes) == TIME_END - 1
    assert started_ms(new_process(TIME_END).bytes) is None
    assert started_ms(uuid.uuid4().bytes) is None
