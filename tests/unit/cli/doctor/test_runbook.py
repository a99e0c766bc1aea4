"""`docs/runbook.md` lists every line of `doctor` that is not `ok`, every check and every kind of incident, and no
others.

Method: the lines are read from the source of the checks; `…` stands for whatever a line puts in."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from asgi_audit.cli.doctor.command import ALL
from asgi_audit.indexing.incidents import IncidentKind, SourceIncidentKind
from asgi_audit.store.state import Incident

ROOT = Path(__file__).parents[4]
DOCTOR = ROOT / "src" / "asgi_audit" / "cli" / "doctor"
TEXT = (ROOT / "docs" / "runbook.md").read_text("utf-8")
OF_CODE = {"kafka": {"broker", "topic"}}  # checks whose lines begin with other words than their name


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its header row."""
    part = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    _, rule, *lines = [line for line in part.splitlines() if line.startswith("|")]
    assert rule == "|---|---|---|"
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(cells) == 3 and all(cells) for cells in found), heading
    return found


def described() -> list[tuple[str, str]]:
    """(check, line) of each row, without the backquotes."""
    return [(name, line.strip("`")) for check, line, _ in rows("doctor") for name in names(check)]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell) or [cell]


def template(node: ast.expr, function: ast.FunctionDef) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.Name):
        values = [
            a.value
            for a in ast.walk(function)
            if isinstance(a, ast.Assign) and ast.unparse(a.targets[0]) == node.id and a.lineno <= node.lineno
        ]
        return template(values[-1], function) if values else "…"
    return "…"


def lines_of_code() -> Iterator[tuple[str, str]]:
    """Returns (check, line) of each finding that may be `warn` or `bad`; the check is '' where it is in a variable."""
    for path in sorted(DOCTOR.glob("*.py")):
        for function in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "Finding":
                    level, about, message = call.args[:3]
                    if ast.unparse(level) != "'ok'":
                        name = str(about.value) if isinstance(about, ast.Constant) else ""
                        yield name, template(message, function)


def test_every_line_of_doctor_is_described() -> None:
    found = list(lines_of_code())
    assert len(found) > 35
    known = described()
    for name, line in found:
        if not re.search(r"[a-z]", line):  # assembled from parts: the check itself must be listed
            line = ""
        of_name = [d for n, d in known if name in (n, "")]
        assert line in of_name or (not line and of_name), f"no row for {name!r}: {line}"


def test_every_row_is_a_line_of_doctor() -> None:
    strings = {
        str(node.value)
        for path in [*DOCTOR.glob("*.py"), DOCTOR.parents[1] / "transport" / "kafka" / "topics.py"]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant)
    }
    checks = {name.replace("_", " ") for check in ALL for name in OF_CODE.get(check.__name__, {check.__name__})}
    rows_of_doctor = described()
    assert {name for name, _ in rows_of_doctor} == checks | {"any", "not checked"}
    for name, line in rows_of_doctor:
        if not line.startswith("("):
            for part in filter(None, line.split("…")):
                assert any(part in one for one in strings), f"{name}: {line} is no line of doctor: {part!r}"


def test_every_kind_of_incident_is_described_and_no_other() -> None:
    kinds = set(typing.get_args(typing.get_type_hints(Incident)["kind"]))
    assert set(typing.get_args(IncidentKind)) | set(typing.get_args(SourceIncidentKind)) <= kinds
    found = [kind.strip("`") for kind, _, _ in rows("Incidents")]
    assert sorted(found) == sorted(kinds)


def test_links_lead_to_documents_that_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
