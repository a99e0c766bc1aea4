"""Any input costs a bounded time, for a single call and for a whole record.

Method: seeded bodies of 64 KiB repeat parts of the module's own expressions and of documents, in one or both
directions. For each, two values are measured: the thread's processor time (the smallest of a few runs, relative to a
reference search on the same machine at that moment); and, by the interpreter's profile hook, the longest time between
two calls or returns, during which the lock may not be released. Thousands of bodies: `make adversarial`.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable

import orjson
import pytest
from tests.support.adversarial import TYPES, Attack, body, words
from tests.support.exchanges import make_builder, make_exchange
from tests.support.machine import processor_time, uncollected, within
from tests.support.schema import checked

from asgi_audit.exchange.sealed import Exchange
from asgi_audit.redaction import Redactor, sequences
from asgi_audit.redaction.budget import MISS, STEPS_MAX, Budget, TooCostly
from asgi_audit.redaction.fields import COOKIE
from asgi_audit.redaction.names import Names

from . import large

RECORD_SECONDS = 0.025
CALL_SECONDS = 0.005
EVENTS_MAX = 400_000
BUILDER = make_builder()
REDACTOR = Redactor()
K64 = 65_500


def longest_stretch(call: Callable[[], object]) -> float:
    """Returns the seconds of processor time of the longest interval between two events of the profile hook."""
    clock = time.thread_time
    longest = 0.0
    last = clock()

    def event(*_: object) -> None:
        nonlocal longest, last
        longest = max(longest, clock() - last)
        last = clock()

    before = sys.getprofile()
    last = clock()
    sys.setprofile(event)
    try:
        with uncollected():
            call()
    finally:
        sys.setprofile(before)
    return longest


def exchange(attack: Attack, content_type: bytes, both: bool) -> Exchange:
    data = attack.data(K64)
    answer = data if both else b""
    return make_exchange(
        "POST", body=data, content_type=content_type or None, answer=answer, answer_type=content_type or None
    )


def too_slow(seed: int, units: list[str]) -> str:
    """Returns what was too slow for the attack with this seed; empty when nothing was."""
    rng = random.Random(seed)
    attack, content_type, both = body(rng, units), rng.choice(TYPES), rng.random() < 0.3

    def build() -> bytes:
        return BUILDER.build(exchange(attack, content_type, both))

    def build_seconds() -> float:
        x = exchange(attack, content_type, both)
        return processor_time(lambda: BUILDER.build(x))

    whole = within(build_seconds, RECORD_SECONDS)
    call = within(lambda: longest_stretch(build), CALL_SECONDS) if whole > CALL_SECONDS / 2 else 0.0
    if whole <= RECORD_SECONDS and call <= CALL_SECONDS:
        return ""
    return f"seed {seed}: record {whole * 1e3:.1f} ms, call {call * 1e3:.1f} ms: {content_type!r} {both} {attack!r}"


def events_of(call: Callable[[], object]) -> int:
    """Counts the calls and returns of Python and C while it runs."""
    events = itertools.count()
    before = sys.getprofile()
    sys.setprofile(lambda *_: next(events) and None)
    try:
        call()
    finally:
        sys.setprofile(before)
    return next(events)


def test_records_take_bounded_work_when_attacked() -> None:
    """Counted, so that other programs on the machine do not matter: 400,000 events take 25 ms. The time of single C
    calls is measured for each expression in `test_expressions`, and for whole records by `make adversarial`."""
    units = words()
    worst = (0, "")
    for seed in range(150):
        rng = random.Random(seed)
        attack, content_type, both = body(rng, units), rng.choice(TYPES), rng.random() < 0.3
        x = exchange(attack, content_type, both)
        worst = max(worst, (events_of(lambda x=x: BUILDER.build(x)), f"seed {seed}: {attack!r}"))  # type: ignore[misc]
    assert worst[0] <= EVENTS_MAX, worst


@pytest.mark.parametrize(
    "attack",
    [
        Attack("password: x\n", '"aa",', ""),
        Attack("password: x\n", '"aa",,,,,', ""),
        Attack("password: x\n", '"aa"]', ""),
        Attack("<a password", "}", '">'),
        Attack('{"password":"x","', "[0", '":1}'),
        Attack("password: x\n", "pin\n", ""),
        Attack("password: x\n", 'pw"a', ""),
        # A quote before the name: the value ends at the next quote.
        Attack("", '"password=x abc def ghi jkl ', ""),
        Attack("", '"password=x ', ""),
        Attack("", "&#112;", ""),
        Attack("", '"value":"x"\\u0070', ""),
        Attack("", "Content-Disposition: form-data; name=pin; name=pin; name=pin; name=pin; name=pin\n", ""),
        Attack("", "\x1b[1mpassword\x1b[0m", ""),
        Attack("", "'token: x abc def ghi jkl ", ""),
        Attack("", '\\"password=insert into t(password) values ', ""),
        Attack("", "  ://a:b@", ""),
        Attack("", '://a:b@"password":', ""),
    ],
    ids=lambda a: a.fragment,
)
@pytest.mark.parametrize("content_type", [b"text/plain", b"text/html", b"application/json"])
def test_what_once_held_the_interpreter_takes_bounded_time(attack: Attack, content_type: bytes) -> None:
    def build() -> object:
        return BUILDER.build(exchange(attack, content_type, False))

    assert within(lambda: processor_time(build), RECORD_SECONDS) <= RECORD_SECONDS
    assert within(lambda: longest_stretch(build), CALL_SECONDS) <= CALL_SECONDS


@pytest.mark.parametrize("fragment", ["%", ",%:", "%}", "%=", "%25", "%41x", "%E4%B8%AD"])
@pytest.mark.parametrize("both", [False, True], ids=["request", "both"])
def test_forms_of_percent_signs_take_bounded_work(fragment: str, both: bool) -> None:
    """Counted: decoding takes some steps for each sign, whether an escape begins there or not."""
    x = exchange(Attack("a=", fragment, ""), b"application/x-www-form-urlencoded", both)
    assert events_of(lambda: BUILDER.build(x)) <= EVENTS_MAX


def test_long_form_of_escapes_is_kept() -> None:
    body = b"name=%E6%9D%8E&comment=" + b"%E6%96%87%E5%AD%97" * 3_400 + b"&password=Hx7sunflower9Zq"
    value = orjson.loads(
        BUILDER.build(make_exchange("POST", body=body, content_type=b"application/x-www-form-urlencoded"))
    )
    assert value["request"]["body"] == {"name": "李", "comment": "文字" * 3_400, "password": "[REDACTED]"}


@pytest.mark.parametrize(
    "cookie",
    [b";" * 60_000, b"; " * 30_000, b"a=%41;" * 10_000, b"; ".join(b"n%dx=1" % i for i in range(6_500))],
    ids=["empty", "blank", "escaped", "distinct"],
)
def test_parts_of_a_cookie_are_bounded(cookie: bytes) -> None:
    """Counted: everything after the first 300 parts is one part."""
    record = REDACTOR.record()
    kept = record.header(COOKIE, cookie + b"; last=Hx7sunflower9Zq")
    assert kept.count(b";") <= 300
    assert kept.endswith(b"; [REDACTED]")
    assert b"Hx7sunflower9Zq" not in kept
    assert record.left < STEPS_MAX


def test_cookie_is_masked_when_the_budget_is_spent() -> None:
    record = REDACTOR.record()
    record.left = 1
    assert record.header(COOKIE, b"a=Hx7sunflower9Zq; b=c") == b"[REDACTED]"


def test_body_is_omitted_when_too_much_must_be_looked_at() -> None:
    """Counted and not timed, so that the same body always has the same record. The record is still searched for its
    secret."""
    lines = b"password: hunter2x9y\n" + b"pin\n" * 16_000
    x = make_exchange("POST", body=lines, content_type=b"text/plain", answer=b'{"said":"hunter2x9y"}')
    record = BUILDER.build(x)
    value = checked(record)
    assert value["request"]["body"] is None
    assert value["context"]["requestBody"]["captured"] == "omitted"
    assert "request.body" in value["context"]["redacted"]
    assert b"hunter2x9y" not in record


def test_next_record_has_the_whole_ceiling_again() -> None:
    BUILDER.build(make_exchange("POST", body=b"password: x\n" + b"pin\n" * 16_000, content_type=b"text/plain"))
    value = checked(BUILDER.build(make_exchange("POST", body=b'{"a":1,"password":"x"}')))
    assert value["request"]["body"] == {"a": 1, "password": "[REDACTED]"}


def test_a_usual_body_of_64_kib_is_recorded() -> None:
    rows = [{"id": i, "name": f"n {i}", "tags": ["a", "b"], "password": f"hunter{i}"} for i in range(900)]
    for data, content_type in (
        (orjson.dumps(rows), b"application/json"),
        (
            b"".join(b"2026-01-01 INFO request %d took 12 ms\n" % i for i in range(1_500)) + b"password: x\n",
            b"text/plain",
        ),
        (
            b"&".join(b"field%d=value%d" % (i, i) for i in range(1_500)) + b"&pin=1",
            b"application/x-www-form-urlencoded",
        ),
    ):
        value = checked(BUILDER.build(make_exchange("POST", body=data, content_type=content_type)))
        assert value["context"]["requestBody"]["captured"] == "full"
        assert "[REDACTED]" in str(value["request"]["body"])


ROW = "%d,m%d@example.com,Zk93hfQ2mv%dL8\n"


@pytest.mark.parametrize(
    ("kind", "head", "row"),
    [
        (b"application/x-ndjson", "", '{"id":%d,"email":"m%d@example.com","password":"Zk93hfQ2mv%dL8"}\n'),
        (b"text/csv", "id,email,password\n", ROW),
        (b"text/plain", "", "2026-01-01 INFO user %d of m%d logged in with password=Zk93hfQ2mv%dL8\n"),
        (b"application/yaml", "", "- id: %d\n  name: u%d\n  password: Zk93hfQ2mv%dL8\n"),
        (b"text/plain", "", "SERVICE_%d_URL=http://h%d/\nSERVICE_API_KEY=Zk93hfQ2mv%dL8\n"),
    ],
)
def test_a_body_with_700_secrets_is_masked_and_not_left_out(kind: bytes, head: str, row: str) -> None:
    body = (head + "".join(row % (n, n, n) for n in range(700))).encode()
    assert len(body) <= 65_536
    record = REDACTOR.record()
    kept = record.body(body, kind, "request.body")
    assert kept is not None
    assert kept.count(b"[REDACTED]") == 700
    assert b"Zk93hfQ2mv" not in kept


@pytest.mark.parametrize(
    ("kind", "many", "last"),
    [
        (b"text/csv", "id,token\n%d,none\n\n", "id,password\n7,§\n"),
        (b"text/csv", "key,value\nsize%d,none\n\n", "key,value\npassword,§\n"),
        (b"text/plain", "[secrets]\n" + "a = b\n" * 300, "c = §\n"),
        (b"text/plain", "the token of %d is gone\n", "<user><password>§</password></user>"),
        (b"text/plain", "- password %d\n- yes\n", "- password\n- §\n"),
        (b"application/yaml", "- name: token\n", "- name: password\n  value: §\n"),
        (b"text/plain", "token %d was refused\n", "curl -u mira:§ https://h/"),
        (b"application/x-www-form-urlencoded", "a%d=" + "x" * 9 + "&", "ticket=§"),
    ],
)
def test_secrets_behind_many_harmless_things_are_masked_or_left_out(kind: bytes, many: str, last: str) -> None:
    secret = "Zk93hfQ2mvR7xL8pT4wYb6"
    for number in (10, 250, 700):
        body = "".join(many % n if "%d" in many else many for n in range(number)) + last.replace("§", secret)
        kept = REDACTOR.record().body(body.encode()[-K64:], kind, "request.body")
        assert kept is None or secret.encode() not in kept
        if number == 10:
            assert kept is not None


def test_budget_is_counted() -> None:
    budget = Budget()
    budget.spend(STEPS_MAX)
    with pytest.raises(TooCostly):
        budget.spend(1)


@pytest.mark.parametrize("name", large.DOCUMENTS)
def test_large_bodies_of_applications_are_masked(name: str) -> None:
    some = large.DOCUMENTS[name]
    body = some.body()
    record = REDACTOR.record()
    kept = record.body(body, some.kind.encode(), "request.body", valid=some.kind == large.JSON)
    assert kept is not None
    assert kept.count(b"[REDACTED]") >= body.count(b"Zk") // 2, kept[-300:]
    assert b"Zk" not in kept


def spent(body: bytes, kind: bytes = b"text/plain") -> int:
    """Steps: what the body adds to the budget and what is left of that."""
    record = REDACTOR.record()
    record.body(body, kind, "request.body", valid=kind == b"application/json")
    return STEPS_MAX + (len(body) >> 6) - record.left


def test_headings_of_fields_without_an_empty_line_are_charged() -> None:
    plain = b"password: x\n" + b"Content-Disposition: form data; name=pin\n" * 300
    assert spent(plain.replace(b"form data", b"form-data")) >= spent(plain) + 2 * 300


def test_names_in_quotes_without_a_value_are_charged() -> None:
    """Behind each, up to 200 bytes are searched for its value."""
    assert spent(b'"a pin "], b ' * 300) >= spent(b"a pin ], b " * 300) + 3 * 150


def test_keys_that_are_not_cached_are_charged() -> None:
    keys = b"[" + b",".join([b'{"INSERT INTO t (password) VALUES (0), ":1}'] * 300) + b"]"
    assert spent(keys, b"application/json") >= MISS * 300


def test_words_beside_names_are_charged() -> None:
    assert spent(b"a pin x_y_z_w_v " * 300) >= spent(b"a pin value of " * 300) + 4 * 250


def test_long_names_are_charged_by_their_length() -> None:
    names = Names()
    names.kind(b"a1-" * 60 + b"pin")
    assert names.misses == 1 + 183 // 32


def test_values_of_names_on_lines_of_their_own_are_not_judged() -> None:
    """`id: 17`: no alarm is in the value."""
    before = REDACTOR.names.misses
    assert spent(b"password: Zk93hfQ2mv7dL8\n" + b"".join(b"- id: a%dx%d\n" % (n, n) for n in range(500)))
    assert REDACTOR.names.misses - before < 50


def test_pieces_of_a_stream_are_joined_by_few_calls() -> None:
    """The bytes between them are the same."""
    pieces = [b"The ", b"quick ", b"fox", b"."] * 100
    text = b"".join(b'data: {"id":1,"delta":{"content":"%b"}}\n\n' % piece for piece in pieces)
    assert sequences._pieces(text) == [(b"content", 400, b"".join(pieces))]
    assert events_of(lambda: sequences._pieces(text)) < 60


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        (b'{"content":"a"}\n{"content":"b"}\n{"content":"\\"c"}\n', [(b"content", 3, b'ab\\"c')]),
        (b'{"content":"a"}\n{"content":"b"}\n{"content": "c"}\n', [(b"content", 3, b"abc")]),
        (b'{"content":"a"}\n{"content":"b"}\n{"text":"c"}\n', [(b"content", 2, b"ab"), (b"text", 1, b"c")]),
        (b'{"content":"a","n":1}\n{"content":"b","n":2}\n', [(b"content", 2, b"ab")]),
        (b'{"content":"a"}\n', []),
    ],
)
def test_pieces_of_a_stream_are_joined(text: bytes, joined: list[tuple[bytes, int, bytes]]) -> None:
    assert sequences._pieces(text) == joined
