"""Goal: no byte of one account reaches the other, through any operation of the table: rows, filters, counts, searches,
tokens, cursors, headers, error messages, and their lengths.

Method: two accounts hold records of the same few services, instances and words, each marked with its account's name
in all texts of its own, and long-open exchanges of their own. The same requests go to this index and to one that
never had the other account's records, with the same keys and the same secret. The responses must be the same bytes,
except for random parts (long runs of letters and digits, whose length must be equal). A request is the operation's
own example with values exchanged for words of either account, or with values that the other account received
(executions, cursors, ids). New dialects in the table are tested automatically."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import httpx
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.support.api import DAY_MS, SqliteApi
from tests.support.clock import Clock
from tests.support.operations import TABLE, Asker, find
from tests.support.records import extent, foreign, record
from tests.support.tokens import issuer_of, token

from asgi_audit.api.operation import Operation
from asgi_audit.record.codec import Decoded
from asgi_audit.store.base import Batch
from asgi_audit.store.state import Completion, ProcessState

ASKED = [operation for operation in TABLE if operation.roles or operation.link]
ACCOUNTS = ("cyan", "ruby")
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes seconds, and prints its request
ABOUT = sorted({(o.example.path.get("service", "gateway"), o.example.path.get("instance", "i1")) for o in TABLE})
LONG = re.compile(rb"[A-Za-z0-9_%~+/=-]{20,}")
DATE = re.compile(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")  # of a file, by the wall clock
WORDS = (
    "cyan", "ruby", "of-cyan", "of-ruby", "alice", "gateway", "logs", "i1", "word", '"of ruby"', "POST", "4xx", "404",
    "ERROR", "INFO", "true", "false", "newest", "oldest", "status", "level", "1", "2", "50", "1000", "60", "0", "-1",
    "2024-01-01", "2024-01-02", "2024-01-01T00:00:00.003Z", "2023-01-01T00:00:00Z", "1h", "24h", "completed",
    "/of-cyan", "/of-ruby", "/shared", "metadata.id", "context.principal", "r-of-ruby-1", "eu", "x", "",
)  # fmt: skip

facts = st.tuples(
    st.sampled_from(ACCOUNTS),
    st.integers(-2, 4),
    st.sampled_from([*ABOUT, ("logs", "i1"), ("of", "of")]),
    st.sampled_from([200, 404, 500]),
    st.sampled_from(["POST", "GET"]),
    st.booleans(),  # whether it has words of its own
)
batches = st.lists(st.lists(facts, min_size=1, max_size=6), min_size=1, max_size=5)
changes = st.lists(
    st.tuples(st.integers(0, len(ASKED) - 1), st.integers(0, 5), st.integers(0, 40), st.sampled_from(WORDS)),
    min_size=8,
    max_size=16,
)


def made(number: int, fact: Any) -> Decoded:
    account, ms, (service, instance), status, method, is_own = fact
    own = f"of-{account}"
    given_: dict[str, Any] = {
        "account": account,
        "service": own if service == "of" else service,
        "instance": own if instance == "of" else instance,
        "status": status,
        "method": method,
        "principal": own if is_own else "alice",
        "operation": f"read-{own}" if is_own else "read",
        "route": f"/{own}/{{id}}" if is_own else "/shared/{id}",
        "client": own if is_own else "192.0.2.1",
        "message": f"word {own}" if is_own else "word shared",
        "annotations": {own: own} if is_own else {},
    }
    if number % 2:
        return foreign(DAY_MS + ms, name=f"id-{own}-{number}", **given_)
    at = DAY_MS + ms
    identity = f"{at >> 16:08x}-{at & 0xFFFF:04x}-7000-8000-{number:012x}"
    return record(number, at, identity=identity, request_id=f"r-{own}-{number}", **given_)


def credential(api: SqliteApi, by: str, role: str, account: str) -> str:
    if by == "token":
        return token(role=role, accounts=account, sub="alice", exp=10**10)
    return api.control.create_key(role, [account])[1]


@contextmanager
def two(directory: Path, made_of: list[list[Decoded]], own: str, by: str = "key") -> Iterator[tuple[Asker, Asker]]:
    """An API over the records of both accounts, and one over those of `own` alone; keys, or tokens, and secret are the
    same."""
    clock = Clock(DAY_MS / 1000 + 60)
    together = SqliteApi(directory / "together", clock=clock, issuer=issuer_of())
    keys = {o.id: credential(together, by, min(o.roles or {"auditor"}), own) for o in ASKED}
    (directory / "apart").mkdir()
    for file in (directory / "together").glob("control.db*"):
        shutil.copy(file, directory / "apart")
    apart = SqliteApi(directory / "apart", clock=clock, issuer=issuer_of())
    askers = Asker(together), Asker(apart)
    for asker in askers:
        asker.key = lambda operation, accounts: keys[operation.id] if accounts == [own] else None  # type: ignore[method-assign]
    try:
        for records in made_of:
            together.add(*records)
            apart.add(*(d for d in records if d.account == own))
        for api, names in ((together, ACCOUNTS), (apart, (own,))):
            opened = [(name, 1 + 2 * (name != own)) for name in names]
            state = ProcessState(
                process=b"p" * 16,
                partition="p",
                started=DAY_MS,
                open_count=1 + sum(n for _, n in opened),  # one whose account is not known yet: it counts for all
                open_from=DAY_MS,
                open_to=DAY_MS,
                open_accounts=opened,
            )
            completion = Completion(extent(DAY_MS + 1000, begins=DAY_MS), [state], [])
            api.store.write(Batch(source="t", positions={}, completion=completion))
        yield askers
    finally:
        together.close()
        apart.close()


def question(operation: Operation, kind: int, at: int, word: str) -> dict[str, Any]:
    """The example with one changed value: of the parameters, the path or the body."""
    names = list(operation.parameters.model_fields) if operation.parameters else []
    asked: dict[str, Any] = {"query": {}}
    if kind <= 2 and names:
        field = operation.parameters.model_fields[names[at % len(names)]] if operation.parameters else None
        alias = field.alias if field is not None and field.alias else names[at % len(names)]
        asked["query"] = {alias: word}
    elif kind == 3 and operation.example.body is not None:
        asked["json"] = exchanged(operation.example.body, at, word)
    elif kind == 4 and operation.example.path:
        name = sorted(operation.example.path)[at % len(operation.example.path)]
        asked["path"] = operation.path.replace("{" + name + "}", word.replace("/", "%2F") or "x")
    return asked


def exchanged(body: Any, at: int, word: str) -> Any:
    """The value with its text number `at` exchanged."""
    left = [at % max(1, texts_in(body))]

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v) for v in value]
        if isinstance(value, str):
            left[0] -= 1
            return word if left[0] == -1 else value
        return value

    return walk(body)


def texts_in(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(texts_in, value.values()))
    return sum(map(texts_in, value)) if isinstance(value, list) else isinstance(value, str)


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, bytes]], bytes]:
    """Everything in the response; of random parts only their length."""
    headers = [(k, v.encode()) for k, v in answer.headers.multi_items()]
    return answer.status_code, [(k, masked(v)) for k, v in headers], masked(answer.content)


def masked(text: bytes) -> bytes:
    return LONG.sub(lambda found: b"<%d>" % len(found[0]), DATE.sub(b"<date>", text))


def is_free_of(answer: httpx.Response, other: str) -> bool:
    raw = answer.content + repr(answer.headers.multi_items()).encode()
    assert other.encode() not in raw
    for run in LONG.findall(raw):
        for data in (run, run.rstrip(b"=") + b"=" * (-len(run) % 4)):
            try:
                assert other.encode() not in base64.urlsafe_b64decode(data)
            except ValueError:
                continue
    return True


@settings(deadline=None, max_examples=max(6, settings().max_examples // 8), phases=WITHOUT_SHRINKING)
@given(made_of=batches, own=st.sampled_from(ACCOUNTS), by=st.sampled_from(["key", "token"]), asked=changes)
def test_no_byte_of_one_account_reaches_the_other(made_of: list[Any], own: str, by: str, asked: list[Any]) -> None:
    numbered = iter(range(1, 1000))
    records = [[made(next(numbered), fact) for fact in of] for of in made_of]
    other = next(name for name in ACCOUNTS if name != own)
    with TemporaryDirectory() as directory, two(Path(directory), records, own, by) as (together, apart):
        for operation in ASKED:
            answers = both(together, apart, operation, own)
            if answers is not None:
                assert told(answers[0]) == told(answers[1]), operation.id
                assert is_free_of(answers[0], other)
        for which, kind, at, word in asked:
            operation = ASKED[which]
            changed = question(operation, kind, at, word)
            answers = both(together, apart, operation, own, **changed)
            if answers is not None:
                assert told(answers[0]) == told(answers[1]), (operation.id, changed)
                if other not in repr(changed) and other not in word:
                    assert is_free_of(answers[0], other)


def both(
    together: Asker, apart: Asker, operation: Operation, own: str, **given_: Any
) -> tuple[httpx.Response, httpx.Response] | None:
    """The responses to one request; None when there is nothing to follow."""
    answers = []
    for asker in (together, apart):
        key = asker.key(operation, [own])
        values = followed(asker, operation, own)
        if values is None:
            return None
        answers.append(asker.ask(operation, key, values=values, **given_))
    return answers[0], answers[1]


def followed(asker: Asker, operation: Operation, own: str) -> dict[str, str] | None:
    """None when the earlier operation returned nothing, for example an empty list."""
    if operation.link is None:
        return {}
    before = next(o for o in TABLE if o.id == operation.link.operation)
    values = followed(asker, before, own)
    if values is None:
        return None
    answer = asker.ask(before, asker.key(before, [own]), values=values)
    asker.api.run_exports()
    if answer.status_code != 200:
        return None
    if operation.link.url:
        if not answer.headers.get(operation.link.url) and not find(answer.json(), operation.link.url):
            return None
        return asker.followed(operation, asker.key(operation, [own]))
    found = {name: find(answer.json(), field) for name, field in operation.link.path_fields.items()}
    return None if None in found.values() else found


@settings(deadline=None, max_examples=max(2, settings().max_examples // 20), phases=WITHOUT_SHRINKING)
@given(made_of=batches, by=st.sampled_from(["key", "token"]))
def test_what_another_account_was_given_opens_nothing(made_of: list[Any], by: str) -> None:
    """Executions, cursors and ids of `ruby`, sent with a key of `cyan`: as if they did not exist. With tokens, both
    have one subject."""
    numbered = iter(range(1, 1000))
    records = [[made(next(numbered), fact) for fact in of] for of in made_of]
    with TemporaryDirectory() as directory, two(Path(directory), records, "cyan", by) as (together, _):
        thief = {o.id: together.key(o, ["cyan"]) for o in ASKED}
        api = cast(SqliteApi, together.api)
        keys = {o.id: credential(api, by, min(o.roles or {"auditor"}), "ruby") for o in ASKED}
        ruby = Asker(together.api)
        ruby.key = lambda operation, accounts: keys[operation.id]  # type: ignore[method-assign]
        for operation in ASKED:
            values = followed(ruby, operation, "ruby")
            if values is not None and operation.link and not operation.signed:
                answer = together.ask(operation, thief[operation.id], values=values)
                assert answer.status_code == 404 or answer.json().get("success") is False, (operation.id, answer.text)
                assert is_free_of(answer, "ruby")
            if values is None:
                continue
            given_ = ruby.ask(operation, keys[operation.id], values=values)
            cursors = [run.decode() for run in LONG.findall(given_.content) if run.startswith(b"A")]
            for cursor in cursors[:2]:
                for by in ASKED:
                    for name in names_of_tokens(by):
                        own = followed(together, by, "cyan")
                        if own is None:
                            continue
                        answer = together.ask(by, thief[by.id], values=own, query={name: cursor})
                        assert answer.status_code in (400, 404), (by.id, name, answer.text)
                        assert is_free_of(answer, "ruby")


def names_of_tokens(operation: Operation) -> list[str]:
    names = set(operation.parameters.model_fields) if operation.parameters else set()
    return sorted(names & {"after", operation.dialect.field_names.get("page_token", "after")})


def test_every_operation_that_needs_a_key_is_asked() -> None:
    assert {o.id for o in TABLE if o.roles} <= {o.id for o in ASKED}
