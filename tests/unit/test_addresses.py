"""An error about an address shows no password: neither in the exception, nor in a log line, nor on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_audit.addresses import shown_value, url_path, without_passwords
from asgi_audit.cli import main
from asgi_audit.errors import ConfigError
from asgi_audit.settings import make_settings
from asgi_audit.transport.kafka.config import kafka_config

PASSWORD = "s3cret"
WRONG = [
    "KAFKA://u:s3cret@h:9092/t",
    "Kafkas://u:s3cret@h/t",
    "kafka://u:s3cret@h:9092/t",
    "kafka://u:s3cret/t",
    "kafka://s3cret@h/t",
    "kafka://u:s3cret%40h/t",
    "kafka://u:p w s3cret@h/t",
    "kafka://h/t?password=s3cret",
    "kafka://h/t?sasl.jaas.config=x password=s3cret",
    "kafka://h/t#s3cret",
    "kafka:u:s3cret@h",
    "kafka//u:s3cret@h",
    "u:s3cret@h:9092/t",
    "sqlite://u:s3cret@h/x",
    "sqlite:u:s3cret@h/x",
    "postgresql://u:s3cret@h/x",
    "memory://u:s3cret@h",
    "memory://?password=s3cret",
    "journal://u:s3cret@h/x",
    "//u:s3cret@h",
    "amqp://u:s3cret@h/t",
    "kafkas://h:9092/t#s3cret=x",
    "redis://:s3cret@h:6379/0",
]


@pytest.mark.parametrize("address", WRONG)
@pytest.mark.parametrize("name", ["transport", "journal", "store", "home", "host", "kafka_ca_file", "port", "detail"])
def test_setting_shows_no_password_when_an_address_is_refused(name: str, address: str) -> None:
    if name in ("journal", "home", "kafka_ca_file") and "://" not in address:
        return  # a path, like any text without `://`
    with pytest.raises(ConfigError, match=f"^setting {name} is ") as caught:
        make_settings({}, **{name: address})
    assert PASSWORD not in f"{caught.value} {caught.value.hint} {caught.value!r}"


@pytest.mark.parametrize("address", WRONG)
def test_parser_of_an_address_shows_no_password(address: str) -> None:
    for parse in (url_path, kafka_config):
        with pytest.raises(ConfigError) as caught:
            parse(address)
        assert PASSWORD not in f"{caught.value} {caught.value.hint} {caught.value!r}"


@pytest.mark.parametrize("address", [a for a in WRONG if "://" in a])
@pytest.mark.parametrize(
    "command",
    [
        ["index", "--from"],
        ["index", "--to"],
        ["serve", "--from"],
        ["serve", "--store"],
        ["serve", "--host"],
        ["tail", "--from"],
        ["doctor", "--transport"],
        ["forward", "--to"],
        ["completeness", "--store"],
        ["purge", "--before", "2020-01-01", "--store"],
        ["topics", "create"],
        ["keys", "list", "--home"],
        ["index"],
        [],
    ],
)
def test_command_shows_no_password_when_an_address_is_refused(
    command: list[str],
    address: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main([*command, address])
    except SystemExit as e:
        code = int(e.code or 0)
    shown = capsys.readouterr()
    assert code
    assert PASSWORD not in shown.out + shown.err
    assert not list(tmp_path.iterdir())


def test_harmless_address_is_shown_whole() -> None:
    for text in ("http://x", "KAFKA://broker:9092/audit-records", "journal://host/path", "broker:9092", "a,b", "/x/y"):
        assert shown_value(text) == repr(text)
    assert shown_value("kafka://" + "x" * 300) == "'kafka://…'"
    assert len(shown_value("x" * 300)) == 200
    assert (shown_value(7), shown_value(["a@b"])) == ("7", "of type list")


def test_text_of_a_library_keeps_all_but_passwords() -> None:
    text = "could not connect to https://u:s3cret@h/x?api_key=s3cret refused, see https://docs.example/a#b"
    shown = without_passwords(text)
    assert PASSWORD not in shown
    assert shown.endswith(" refused, see https://docs.example/a#b")
