"""Principal, route and operation of an exchange, from the scope and from `annotate`; and the memory that a finished
request keeps."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, make_capture, serve_once

import asgi_audit
from asgi_audit.capture.handle import SCOPE_KEY, RequestHandle, current_handle

annotate = asgi_audit.annotate


def app_that(act: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        result = act(scope)
        if result is not None:
            await result
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    return app


def annotated(*args: Any, **values: Any) -> tuple[bool, Any, dict[str, int]]:
    answers: list[bool] = []
    _, exchange, recorder = serve_once(app_that(lambda scope: answers.append(annotate(*args, **values))))
    return answers[0], exchange, recorder.counts


def test_annotation_is_in_the_exchange_when_it_is_made_in_time() -> None:
    good, exchange, counts = annotated(
        account_id="acme",
        service="billing",
        instance_id="i-1",
        principal="alice",
        auth_method="oidc",
        public_key="pk",
        org_id=7,
        org_key="acme-eu",
        operation="invoice.pay",
        level="WARN",
        message="paid\nlate",
        amount=12.5,
        items=[{"id": uuid.UUID(int=1)}],
    )
    assert good
    assert counts == {}
    assert (exchange.account_id, exchange.service, exchange.instance_id, exchange.principal) == (
        "acme",
        "billing",
        "i-1",
        "alice",
    )
    assert (exchange.auth_method, exchange.auth_public_key, exchange.org_id, exchange.org_key) == (
        "oidc",
        "pk",
        "7",
        "acme-eu",
    )
    assert (exchange.operation, exchange.level, exchange.message) == ("invoice.pay", "WARN", "paid\nlate")
    assert exchange.annotations == {"amount": 12.5, "items": [{"id": str(uuid.UUID(int=1))}]}


@pytest.mark.parametrize(
    "values",
    [
        {"level": "warn"},
        {"level": "TRACE"},
        {"service": "a b"},
        {"service": ""},
        {"service": "x" * 65},
        {"instance_id": "a/b"},
        {"instance_id": ".."},
        {"account_id": "*"},
        {"account_id": "x" * 201},
        {"account_id": True},
        {"principal": b"alice"},
        {"principal": "a\nb"},
        {"principal": "\ud800"},
        {"message": "\ud800"},
        {"message": "x" * 1001},
        {"thing": object()},
        {"thing": "\ud800"},
        {"thing": {1: 2}},
        {"thing": "x" * 9000},
        {f"k{i}": i for i in range(33)},
    ],
    ids=lambda v: str(v)[:30],
)
def test_annotation_is_refused_whole_when_a_value_is_not_accepted(values: dict[str, Any]) -> None:
    good, exchange, counts = annotated(**{"operation": "kept out", "fine": 1, **values})
    assert not good
    assert counts == {"annotate_invalid": 1}
    assert (exchange.operation, exchange.annotations, exchange.level) == (None, None, None)


def test_annotation_is_refused_when_it_refers_to_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    good, _, counts = annotated(thing=endless)
    assert (good, counts) == (False, {"annotate_invalid": 1})


def test_annotations_are_bounded_together_when_they_come_one_by_one() -> None:
    answers = []

    def act(scope: Any) -> None:
        answers.extend(annotate(**{f"k{i}": i}) for i in range(40))
        answers.append(annotate(k0="x" * 5000))
        answers.append(annotate(k1="x" * 5000))
        answers.append(annotate(k0="last word"))

    _, exchange, recorder = serve_once(app_that(act))
    assert answers == [True] * 32 + [False] * 8 + [True, False, True]
    assert len(exchange.annotations or ()) == 32
    assert (exchange.annotations or {})["k0"] == "last word"
    assert recorder.counts == {"annotate_invalid": 9}


def test_annotation_is_a_copy_when_the_application_changes_its_object_later() -> None:
    thing = {"list": [1]}
    _, exchange, _ = serve_once(app_that(lambda scope: (annotate(thing=thing), thing["list"].append(2), None)[-1]))
    assert exchange.annotations == {"thing": {"list": [1]}}


def test_annotation_beats_the_scope_when_both_name_a_principal() -> None:
    def act(scope: Any) -> None:
        scope["user"] = SimpleNamespace(is_authenticated=True, display_name="from the scope")
        annotate(principal="annotated")

    _, exchange, _ = serve_once(app_that(act))
    assert exchange.principal == "annotated"


def test_account_is_learned_by_the_recorder_when_it_is_annotated() -> None:
    def act(scope: Any) -> None:
        assert annotate(account_id="a", principal="alice")
        assert annotate(operation="list")
        assert annotate(scope, account_id=7)
        assert not annotate(account_id="*")

    _, exchange, recorder = serve_once(app_that(act))
    assert recorder.accounts == ["a", "7"]
    assert exchange.account_id == "7"


def test_annotation_is_late_when_the_exchange_is_sealed() -> None:
    answers = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        answers.append((annotate(late=1), annotate(scope, late=1)))
        current = asgi_audit.current()
        assert current is not None
        answers.append(current.request_id)

    _, exchange, recorder = serve_once(app)
    assert answers == [(False, False), exchange.request_id]
    assert recorder.counts == {"annotate_late": 2}
    assert exchange.annotations is None


def test_annotate_answers_false_when_there_is_no_request() -> None:
    assert annotate(x=1) is False
    for scope in ({}, object(), {"asgi_audit": "not ours"}, SimpleNamespace(scope=None), 7):
        assert annotate(scope, x=1) is False
    assert asgi_audit.current() is None


def test_annotate_finds_the_request_when_it_is_called_elsewhere() -> None:
    """In a task, in `to_thread`, and with a scope or a Request in a plain thread and in an executor."""
    answers: dict[str, bool] = {}

    async def act(scope: Any) -> None:
        async def task() -> None:
            answers["task"] = annotate(a=1)

        await asyncio.create_task(task())
        answers["to_thread"] = await asyncio.to_thread(annotate, b=1)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            answers["executor"] = await loop.run_in_executor(pool, lambda: annotate(c=1))
            answers["executor, scope"] = await loop.run_in_executor(pool, lambda: annotate(scope, d=1))
            copied = SimpleNamespace(scope={**scope, "path": "/child"})
            answers["executor, Request"] = await loop.run_in_executor(pool, lambda: annotate(copied, e=1))

    _, exchange, _ = serve_once(app_that(act))
    assert answers == {
        "task": True,
        "to_thread": True,
        "executor": False,
        "executor, scope": True,
        "executor, Request": True,
    }
    assert exchange.annotations == {"a": 1, "b": 1, "d": 1, "e": 1}


def test_annotation_is_in_the_record_when_it_answered_true_in_a_race_with_the_seal() -> None:
    """Threads annotate without pause while the request is sealed; each annotation that returned True must be in the
    record."""
    for _ in range(30):
        recorder = ListRecorder()
        accepted: list[list[int]] = [[], []]
        threads: list[threading.Thread] = []

        def act(scope: Any, accepted: Any = accepted, threads: Any = threads) -> None:
            def run(at: int) -> None:
                for i in range(200):
                    if not annotate(scope, **{f"t{at}": i}):
                        break
                    accepted[at].append(i)

            threads += [threading.Thread(target=run, args=(at,)) for at in (0, 1)]
            for thread in threads:
                thread.start()

        _, exchange, _ = serve_once(app_that(act), recorder=recorder)
        sealed = dict(exchange.annotations or {})
        for thread in threads:
            thread.join()
        assert (exchange.annotations or {}) == sealed, "changed after the seal"
        for at in (0, 1):
            if accepted[at]:
                assert sealed[f"t{at}"] >= accepted[at][-1]


def test_requests_do_not_mix_when_they_are_served_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.001)
        annotate(principal=scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(0.001)
        current = asgi_audit.current()
        assert current is not None
        annotate(seen=current.request_id)
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app)

    async def main() -> None:
        servers = [Server(path=f"/{i}") for i in range(50)]
        await asyncio.gather(*(capture(s.scope, s.receive, s.send) for s in servers))

    asyncio.run(main())
    assert len(recorder.sealed) == 50
    for exchange in recorder.sealed:
        assert exchange.principal == exchange.path
        assert exchange.annotations == {"seen": exchange.request_id}


def test_outer_request_is_current_again_when_one_was_made_in_process() -> None:
    inner, recorder = make_capture(app_that(lambda scope: (annotate(which="inner"), None)[-1]))

    async def act(scope: Any) -> None:
        server = Server(path="/inner")
        await inner(server.scope, server.receive, server.send)
        annotate(which="outer")

    outer, _ = make_capture(app_that(act), recorder)
    server = Server(path="/outer")
    asyncio.run(outer(server.scope, server.receive, server.send))
    assert [(e.path, e.annotations) for e in recorder.sealed] == [
        ("/inner", {"which": "inner"}),
        ("/outer", {"which": "outer"}),
    ]


def test_context_is_as_before_when_the_request_is_over() -> None:
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert mine.get() == "outside"
        mine.set("inside")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    capture, _ = make_capture(app)

    async def main() -> None:
        mine.set("outside")
        server = Server()
        await capture(server.scope, server.receive, server.send)
        # With pure ASGI, the caller sees what the application sets in the scope (a BaseHTTPMiddleware breaks this).
        assert mine.get() == "inside"
        assert current_handle.get() is None

    asyncio.run(main())


def test_bodies_are_freed_when_a_task_outlives_the_request() -> None:
    tasks: list[asyncio.Task[None]] = []
    handles: list[RequestHandle] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        tasks.append(asyncio.create_task(asyncio.sleep(60)))
        handles.append(scope[SCOPE_KEY])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        watched.append(weakref.ref(scope["owner"]))

    class Owner:
        pass

    watched: list[weakref.ref[Any]] = []
    capture, recorder = make_capture(app)

    async def main() -> None:
        server = Server((b"x" * 60_000,))
        server.scope["owner"] = Owner()
        await capture(server.scope, server.receive, server.send)
        del server
        recorder.sealed.clear()
        gc.collect()
        (handle,) = handles
        assert handle.draft is None
        assert not tasks[0].done()
        assert watched[0]() is None, "the living task pins the request's scope"
        tasks[0].cancel()

    asyncio.run(main())


class Anonymous:
    is_authenticated = False
    display_name = "nobody"


class Base:
    is_authenticated = True

    @property
    def display_name(self) -> str:
        raise NotImplementedError

    identity = "id-7"


class Hostile:
    @property
    def is_authenticated(self) -> bool:
        raise RuntimeError("database")


@pytest.mark.parametrize(
    ("user", "principal"),
    [
        (SimpleNamespace(is_authenticated=True, display_name="alice"), "alice"),
        (SimpleNamespace(username="bob"), "bob"),
        (SimpleNamespace(is_authenticated=True, display_name=7, username=""), None),
        (SimpleNamespace(display_name="x" * 300), "x" * 200),
        (SimpleNamespace(display_name="\ud800"), None),
        (Base(), "id-7"),
        (Anonymous(), None),
        ({"username": "carol", "password": "p"}, "carol"),
        ("dave", "dave"),
        (object(), None),
        (None, None),
    ],
)
def test_principal_is_read_from_the_scope_when_a_user_is_there(user: Any, principal: str | None) -> None:
    def act(scope: Any) -> None:
        scope["user"] = user

    _, exchange, _ = serve_once(app_that(act))
    assert exchange.principal == principal


def test_application_is_served_when_its_user_object_raises() -> None:
    def act(scope: Any) -> None:
        scope["user"] = Hostile()
        scope["route"] = SimpleNamespace(path="/x/{id}", name="get_x")

    capture, recorder = make_capture(app_that(act))
    server = Server()
    asyncio.run(capture(server.scope, server.receive, server.send))
    (exchange,) = recorder.sealed
    assert (exchange.principal, exchange.route, exchange.endpoint) == (None, "/x/{id}", "get_x")
    assert server.status == 200


def test_endpoint_is_named_when_there_is_no_route() -> None:
    def named(scope: Any) -> None:
        scope["endpoint"] = test_endpoint_is_named_when_there_is_no_route

    _, exchange, _ = serve_once(app_that(named))
    assert (exchange.route, exchange.endpoint) == (None, "test_endpoint_is_named_when_there_is_no_route")

    def instance(scope: Any) -> None:
        scope["endpoint"] = Anonymous()

    _, exchange, _ = serve_once(app_that(instance))
    assert exchange.endpoint == "Anonymous"

    def litestar(scope: Any) -> None:
        scope["path_template"] = "/x/{id:int}"
        scope["route_handler"] = SimpleNamespace(handler_name="get_x")

    _, exchange, _ = serve_once(app_that(litestar))
    assert (exchange.route, exchange.endpoint) == ("/x/{id:int}", "get_x")
