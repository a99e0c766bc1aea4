"""The README is true: its settings table equals the settings, its application runs, its commands exist."""

from __future__ import annotations

import argparse
import json
import re
from importlib import import_module
from pathlib import Path

import jsonschema

from asgi_audit import metrics
from asgi_audit.api.app import DIALECTS
from asgi_audit.cli import COMMANDS, MODULES
from asgi_audit.client.sending import KEY_VARIABLE, URL_VARIABLE
from asgi_audit.record.schema import json_schema
from asgi_audit.settings import Settings, table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS = ROOT / "docs/settings.md"
BEGIN = "<!-- settings: generated from src/asgi_audit/settings; a test compares -->"
SOME = "<!-- some settings: generated from src/asgi_audit/settings; a test compares -->"
END = "<!-- end of settings -->"


def markdown_table() -> str:
    """The settings, without those that only commands have."""
    lines = ["| setting | environment | default | what it does |", "|---|---|---|---|"]
    for name, environment, default, help, used_by in table():
        if used_by not in ("", "middleware", "server"):
            continue
        if isinstance(default, bool):
            shown = "`1`" if default else "`0`"
        elif default in ("", (), None):
            shown = ""
        else:
            shown = f"`{default}`"
        lines.append(f"| `{name}` | `{environment}` | {shown} | {help} |")
    return "\n".join(lines)


def some(names: list[str]) -> str:
    """The table rows of these settings, with the header."""
    head, line, *rows = markdown_table().splitlines()
    known = {row.split("`")[1]: row for row in rows}
    return "\n".join([head, line, *(known[name] for name in names)])


def named(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)`", text, re.MULTILINE)


def test_settings_tables_are_the_generated_ones() -> None:
    """To write them again: python -m tests.unit.test_readme"""
    shown = SETTINGS.read_text("utf-8").split(BEGIN)[1].split(END)[0].strip()
    assert shown == markdown_table()
    assert len(shown.splitlines()) == len(table()) + 2
    short = README.split(SOME)[1].split(END)[0].strip()
    assert short == some(named(short))
    assert 10 <= len(named(short)) <= 15


def test_record_of_the_first_screen_is_one() -> None:
    shown = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    jsonschema.validate(json.loads(shown[1]), json_schema())


def test_first_screen_shows_install_an_application_of_fifteen_lines_and_a_record() -> None:
    first = "\n".join(README.splitlines()[:60])
    application = re.search(r"```python\n(.*?)```", first, re.DOTALL)
    assert application is not None
    assert len(application[1].splitlines()) <= 15
    compile(application[1], "shop.py", "exec")
    assert "pip install" in first
    assert "asgi-audit tail" in first


CLIENT = (KEY_VARIABLE, URL_VARIABLE)


def test_settings_and_metrics_that_the_text_names_exist() -> None:
    names = {name for name, *_ in table()} | metrics.TABLE.keys()
    for word in re.findall(
        r"`([a-z]+(?:_[a-z]+)+)`", README.replace(some(named(README.split(SOME)[1].split(END)[0])), "")
    ):
        assert word in names, word
    for word in re.findall(r"ASGI_AUDIT_(?!TEST_)([A-Z_]+)", README):
        assert hasattr(Settings(), word.lower()) or f"ASGI_AUDIT_{word}" in CLIENT, word


def test_setting_of_dialects_names_all_that_there_are() -> None:
    [row] = [line for line in markdown_table().splitlines() if line.startswith("| `dialects`")]
    assert re.findall(r"`(\w+)`", row.partition("to serve")[2]) == [dialect.name for dialect in DIALECTS]


def test_commands_and_flags_that_the_text_names_exist() -> None:
    for line in re.findall(r"asgi-audit ((?:[a-z-]+)(?: [^`\n]*)?)", README):
        words = line.split()
        if words[0] not in COMMANDS:
            assert words[0] in ("alone", "beside", "records"), line
            continue
        parser = argparse.ArgumentParser()
        import_module(MODULES[words[0]], "asgi_audit.cli").add_arguments(parser)
        accepted = parser.format_help() + "".join(
            sub.format_help()
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
            for sub in action.choices.values()
        )
        for flag in (w for w in words if w.startswith("--")):
            assert flag.strip("`,.;") in accepted, line


def test_make_targets_that_the_text_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([a-z]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


if __name__ == "__main__":
    before, after = (text := SETTINGS.read_text("utf-8")).split(BEGIN)[0], text.split(END)[1]
    SETTINGS.write_text(f"{before}{BEGIN}\n{markdown_table()}\n{END}{after}", "utf-8")
    before, rest = README.split(SOME)
    short, after = rest.split(END)
    (ROOT / "README.md").write_text(f"{before}{SOME}\n{some(named(short))}\n{END}{after}", "utf-8")
