"""The command's frame: help, one line for each error, exit codes."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from asgi_audit import cli
from asgi_audit.cli import COMMANDS, MODULES, main
from asgi_audit.cli.flags import settings_of
from asgi_audit.errors import ConfigError, StoreError, TransportError
from asgi_audit.settings import RETIRED, table

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for _, environment, *_ in table():
        monkeypatch.delenv(environment, raising=False)
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Replaces `tail` by a command that fails."""
    module = ModuleType("failing")
    module.__doc__ = "Fails."

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        pass

    def run(arguments: argparse.Namespace) -> int:
        raise error

    module.add_arguments, module.run = add_arguments, run  # type: ignore[attr-defined]
    real = cli.import_module
    monkeypatch.setattr(cli, "import_module", lambda name, package: module if name == ".tail" else real(name, package))


def test_main_prints_help_when_called_bare(capsys: Captured) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_explains(name: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 100


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("setting x is 'y'; accepted: z"), 2, "asgi-audit: setting x is 'y'; accepted: z"),
        (StoreError("disk\nfull", hint="make room"), 1, "asgi-audit: disk full; make room"),
        (TransportError("gone"), 1, "asgi-audit: gone"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "/x"), 1, "asgi-audit: Permission denied: /x"),
        (
            ValueError("y\nz"),
            70,
            "asgi-audit: a bug in asgi-audit, ValueError: y z; ASGI_AUDIT_TEST_TRACEBACK=1 shows where",
        ),
        (
            ModuleNotFoundError("No module named 'apsw'", name="apsw"),
            2,
            "asgi-audit: the package apsw is not installed; pip install 'asgi-audit[server]'",
        ),
    ],
)
def test_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    command(monkeypatch, error)
    assert main(["tail"]) == code
    assert capsys.readouterr().err == (line + "\n" if line else "")


def test_module_of_ours_that_is_missing_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_AUDIT_TEST_TRACEBACK", "1")
    command(monkeypatch, ModuleNotFoundError("No module named 'asgi_audit.x'", name="asgi_audit.x"))
    with pytest.raises(ModuleNotFoundError):
        main(["tail"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "invalid choice: 'frob'"),
        (["tail", "--bogus"], "--bogus"),
        (["keys"], "create|list|revoke"),
        (["tail", "-n", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_argument_is_one_line(arguments: list[str], said: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("asgi-audit: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["serve", "--port", "x"], "setting port is 'x'; accepted: a whole number from 0 to 65_535"),
        (
            ["tail", "--from", "kafka://x"],
            "setting transport is 'kafka://x'; accepted: kafka://host:port[,host:port]/topic",
        ),
        (["tail", "--from", "memory://"], "there is no journal to read at 'memory://'; accepted: journal:///path"),
        (["index", "--to", "sqlite:///"], "setting store is 'sqlite:///'; accepted: sqlite:///relative/path"),
        (["tail", "-n", "-1"], "--lines is -1; accepted: a whole number from 0 to 100000"),
        (["keys", "list"], "there are no keys in"),
        (["keys", "create", "--role", "reader", "--account", "*", "--account", "a"], "account is '*'; accepted"),
    ],
)
def test_wrong_setting_is_one_line_and_exit_code_2(arguments: list[str], line: str, capsys: Captured) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("asgi-audit: " + line)
    assert err.count("\n") == 1


def test_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("ASGI_AUDIT_PORT", "70000")
    assert main(["serve"]) == 2
    assert "ASGI_AUDIT_PORT is '70000'" in capsys.readouterr().err


def test_keys_are_made_listed_and_revoked(capsys: Captured) -> None:
    assert main(["keys", "create", "--role", "reader", "--account", "acme", "--account", "umbrella"]) == 0
    made = capsys.readouterr()
    clear = made.out.strip()
    assert clear.startswith("aa_")
    key_id = clear.split("_")[1]
    assert f"key {key_id}: reader, account acme, umbrella" in made.err

    assert main(["keys", "list"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:3] == [key_id, "reader", "acme,umbrella"]
    assert row[-1] == "active"

    assert main(["keys", "revoke", key_id]) == 0
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.splitlines()[1].split()[-1] == "revoked"
    assert clear.split("_", 2)[2] not in listed
    assert main(["keys", "revoke", "nothing"]) == 2


@pytest.mark.parametrize(
    ("command", "flag"), [("serve", "--page-bytes-max"), ("forward", "--kafka-compression"), ("index", None)]
)
def test_flag_of_a_retired_setting_is_taken_and_not_shown(
    command: str, flag: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    import_module(MODULES[command], "asgi_audit.cli").add_arguments(parser)
    shown = parser.format_help()
    for name in RETIRED:
        assert "--" + name.replace("_", "-") not in shown
    if flag is None:
        return
    name = flag.removeprefix("--").replace("-", "_")
    given = parser.parse_args([flag, "1"])
    assert getattr(given, f"setting_{name}") == "1"
    assert settings_of(given) == settings_of(parser.parse_args([]))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["srve"], "serve"),
        (["completness"], "completeness"),
        (["serve", "--retention-day", "7"], "--retention-days"),
        (["index", "--metric-port=9400"], "--metrics-port"),
        (["keys", "creat"], "create"),
        (["keys", "create", "--rol", "reader", "--account", "a", "--role", "reader"], "--role"),
        (["keys", "create", "--role", "raeder", "--account", "a"], "reader"),
        (["serve", "--zzzzzz"], ""),
    ],
)
def test_misspelled_word_names_the_one_that_it_resembles(words: list[str], meant: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert (f"; did you mean {meant}?" in said) if meant else ("did you mean" not in said), said
