"""Which package may import which: the order in DESIGN, checked on every import, including lazy and type-checking
ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import asgi_audit

SOURCE = Path(asgi_audit.__file__).parent
ORDER = (
    "record",
    "policy",
    "redaction",
    "exchange",
    "capture",
    "encoding",
    "recording",
    "transport",
    "indexing",
    "store",
    "query",
    "exporting",
    "api",
)
# Modules of a package that packages before it may import.
CONTRACTS = {
    "transport.base",
    "store.base",
    "store.query",
    "store.state",
    "store.admin",
    "store.maintenance",
    "query.model",
}
ADAPTERS = ("transport.journal", "transport.memory", "transport.kafka", "store.sqlite", "exporting.s3")
COMMON = {"addresses", "disk", "durations", "errors", "filelock", "forking", "metrics", "settings"}
# These may import all packages.
OUTSIDE = {"", "__main__", "wiring", "testing", "cli"}


def modules() -> dict[str, Path]:
    """Name inside the package ('' is the package itself, 'store.sqlite' a package of it) to file."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


class _WithoutTypes(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST:
        only_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return ast.Pass() if only_types else self.generic_visit(node)


def imports(name: str, path: Path, *, types: bool = True) -> set[str]:
    """The modules of asgi_audit that `name` imports, anywhere in its text; without `types` those for the type checker
    are left out."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    found = set()
    tree: ast.AST = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree if types else _WithoutTypes().visit(tree)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [a.name.removeprefix("asgi_audit.") for a in node.names if a.name.startswith("asgi_audit.")]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                whole = ".".join([*base, *(node.module.split(".") if node.module else [])])
            elif node.module and node.module.split(".")[0] == "asgi_audit":
                whole = ".".join(node.module.split(".")[1:])
            else:
                continue
            for alias in node.names:
                inner = f"{whole}.{alias.name}".strip(".")
                if inner in MODULES:
                    targets.append(inner)
                elif whole == "" and alias.name == "__version__":
                    continue  # the package's only public constant, which every package may import
                else:
                    targets.append(whole)
        found.update(targets)
    return found - {name}


GRAPH = {name: imports(name, path) for name, path in MODULES.items()}


def room(name: str) -> str:
    return name.split(".")[0]


def adapter(name: str) -> str | None:
    return next((a for a in ADAPTERS if name == a or name.startswith((a + ".", a + "_"))), None)


def objection(name: str, target: str) -> str | None:
    """Why `name` may not import `target`, or None."""
    here, there = room(name), room(target)
    if adapter(target) and adapter(name) != adapter(target) and here not in ("wiring", "testing"):
        return "adapters are imported by wiring alone"
    if here in ("wiring", "testing"):
        return "the command line is the outermost room" if there == "cli" else None
    if here in ("", "__main__"):
        return None
    if here == there or there in COMMON:
        return None if here != "errors" else "errors knows nobody"
    if here in COMMON:
        return f"{here} stands below the rooms"
    if here == "client":
        return "the client knows the API by its HTTP alone"
    if here == "cli":
        allowed = there in ("", "client", "wiring", "record") or target in CONTRACTS
        return None if allowed else "commands go through wiring"
    if there in OUTSIDE:
        return "rooms do not know what stands around them"
    if here == "control":
        # The type of a key's rights, which control returns and queries take.
        return None if target == "query.model" else "control knows errors, disk and what a query is asked with"
    if there == "control":
        return None if here in ("api", "exporting") else "control is imported by exporting, api and wiring only"
    if here not in ORDER or there not in ORDER:
        return f"no room is called {here if here not in ORDER else there}"
    if ORDER.index(there) < ORDER.index(here) or target in CONTRACTS:
        return None
    return f"{there} comes after {here}, which may know its contract only"


def test_each_import_goes_to_an_earlier_room_or_a_contract() -> None:
    wrong = [
        f"{name} imports {target}: {why}"
        for name, targets in GRAPH.items()
        for target in sorted(targets)
        if (why := objection(name, target))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "target", "allowed"),
    [
        ("capture.middleware", "exchange.recorder", True),
        ("capture.middleware", "recording.recorder", False),
        ("capture.middleware", "query.service", False),
        ("encoding.builder", "exchange.sealed", True),
        ("encoding.builder", "recording.state", False),
        ("recording.recorder", "encoding.builder", True),
        ("record.codec", "exchange.draft", False),
        ("indexing.indexer", "store.base", True),
        ("indexing.indexer", "store.sqlite.writer", False),
        ("indexing.indexer", "transport.journal", False),
        ("store.sqlite.reader", "store.sqlite.schema", True),
        ("query.service", "store.sqlite.reader", False),
        ("api.app", "control.keys", True),
        ("query.service", "control.keys", False),
        ("control.keys", "record.ids", False),
        ("cli.serve", "wiring.server", True),
        ("cli.ask.asking", "client", True),
        ("client.flows", "errors", True),
        ("client.flows", "record.schema", False),
        ("cli.serve", "api.app", False),
        ("wiring.server", "cli.serve", False),
        ("settings", "record.ids", False),
        ("wiring.application", "transport.journal", True),
    ],
)
def test_objection_knows_the_rules(name: str, target: str, allowed: bool) -> None:
    assert (objection(name, target) is None) is allowed


def test_imports_form_no_cycle() -> None:
    """Lazy imports count. Two modules of one package may import each other's types: that does not affect the order at
    import, and between packages the order above forbids it."""
    try:
        TopologicalSorter({name: imports(name, path, types=False) for name, path in MODULES.items()}).prepare()
    except CycleError as e:
        pytest.fail("cycle: " + " -> ".join(map(str, e.args[1])))


def test_imports_are_seen_in_every_form() -> None:
    """Tests the check itself: relative, absolute, inside functions and under TYPE_CHECKING."""
    assert "record.codec" in GRAPH["store.base"]
    assert "exchange.sealed" in GRAPH["recording.recorder"]
    assert {"transport.journal", "recording.recorder"} <= GRAPH["wiring.application"]
    assert {"wiring.application", "capture.annotate"} <= GRAPH[""]
    assert "wiring.application" not in imports("", MODULES[""], types=False)


def test_core_loads_nothing_of_the_server_when_a_middleware_writes_its_records() -> None:
    """What an audited application imports: the middleware, its recorder and the journal, with only orjson and
    msgspec."""
    code = """
import sys, tempfile
from asgi_audit import AuditMiddleware, annotate, current, install
import asgi_audit.recording.recorder, asgi_audit.transport.journal
async def app(scope, receive, send): pass
AuditMiddleware(app, home=tempfile.mkdtemp())
third = {"starlette", "fastapi", "pydantic", "apsw", "cryptography", "zstandard", "aiokafka", "anyio", "uvicorn"}
third |= {"httpx"}
print(sorted(third & {name.split(".")[0] for name in sys.modules}))
ours = ("asgi_audit.api", "asgi_audit.store", "asgi_audit.query")
print(sorted(name for name in sys.modules if name.startswith(ours)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n[]\n", 0), done.stderr


def test_recorders_thread_imports_nothing_when_it_writes_its_first_record() -> None:
    """Under pytest an import parses source, and in CPython 3.11 two threads that parse at the same time fail: the
    recorder's, and that of the test that audits its application."""
    code = """
import asyncio, sys, tempfile
from asgi_audit import AuditMiddleware
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"password": "x"}'})
async def nothing(message=None): return {"type": "http.request"}
audited = AuditMiddleware(app, home=tempfile.mkdtemp())
before = set(sys.modules)
asyncio.run(audited({"type": "http", "method": "GET", "path": "/", "headers": []}, nothing, nothing))
audited.recorder.flush(30)
print(audited.stats()["recorded"], sorted(name for name in set(sys.modules) - before if "asgi_audit" in name))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("1 []\n", 0), done.stderr
