"""Every setting: its default, its environment name, its accepted values, and its error message."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from asgi_audit import AuditMiddleware
from asgi_audit.addresses import url_path
from asgi_audit.errors import ConfigError
from asgi_audit.settings import (
    ApplicationSettings,
    Settings,
    environment_name,
    make_settings,
    refuse_others,
    table,
    warnings_about,
)
from asgi_audit.wiring.environment import application_settings, settings_from


def test_settings_are_the_defaults_when_nothing_is_given() -> None:
    assert make_settings({}) == Settings()


def test_default_of_each_setting_is_accepted_by_its_own_check() -> None:
    for field in dataclasses.fields(Settings):
        assert field.metadata["check"](field.default) == field.default, field.name


def test_default_of_each_setting_survives_the_environment_when_written_as_text() -> None:
    for name, environment, default, _, _ in table():
        if default in ((), None):
            continue
        text = str(int(default)) if isinstance(default, bool) else str(default)
        assert getattr(make_settings({environment: text}), name) == default, name


def test_argument_beats_environment_beats_default() -> None:
    environment = {"ASGI_AUDIT_SERVICE": "from-environment"}
    assert make_settings({}).service == "app"
    assert make_settings(environment).service == "from-environment"
    assert make_settings(environment, service="from-argument").service == "from-argument"
    assert make_settings(environment, service=None).service == "from-environment"


@pytest.mark.parametrize("off", ["0", "false", "no", "off", "OFF"])
def test_enabled_0_in_the_environment_beats_an_argument(off: str) -> None:
    assert make_settings({"ASGI_AUDIT_ENABLED": off}, enabled=True).enabled is False


def test_enabled_argument_wins_when_the_environment_says_1() -> None:
    assert make_settings({"ASGI_AUDIT_ENABLED": "1"}, enabled=False).enabled is False


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("port", "x", "a whole number from 0 to 65_535"),
        ("port", 65_536, "a whole number from 0 to 65_535"),
        ("port", True, "a whole number"),
        ("enabled", "perhaps", "1 or 0"),
        ("service", "a/b", "letters, digits"),
        ("service", "x" * 65, "1 to 64"),
        ("account_id", "*", "not '*'"),
        ("account_id", "", "1 to 200"),
        ("account_id", "a\nb", "printable"),
        ("instance_id", "..", "not '.' or '..'"),
        ("instance_id", "a/b", "without '/'"),
        ("region", "us", "one of global, eu"),
        ("delivery", "maybe", "one of buffered, durable"),
        ("detail", "all", "one of none, metadata, headers, bodies"),
        ("kafka_linger_seconds", "0", "seconds from 0.005 to 10"),
        ("kafka_linger_seconds", "nan", "seconds from 0.005 to 10"),
        ("query_wait_seconds", "-1", "seconds from 0 to 60"),
        ("body_bytes_max", "1e6", "a whole number"),
        ("request_id_header", "x y", "a header name"),
        ("redact_names", 7, "names, separated by commas"),
        ("redact_forms", 7, "expressions, separated by white space"),
        ("redact_paths", 7, "paths, separated by commas"),
        ("transport", "http://x", "journal:///path or memory://"),
        ("transport", "journal://host/path", "journal:///relative/path"),
        ("transport", "journal:///", "journal:///relative/path"),
        ("transport", "journal", "journal:///path"),
        ("store", "memory://", "sqlite:///path"),
        ("store", "sqlite:///", "sqlite:////absolute/path"),
        ("host", "", "an address"),
        ("host", "a b", "an address"),
        ("home", "", "a path"),
    ],
)
def test_wrong_setting_is_one_line_with_name_value_and_what_is_accepted(
    name: str, value: object, accepted: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_settings({}, **{name: value})
    message = str(caught.value)
    assert message.startswith(f"setting {name} is {value!r}"[:200])
    assert accepted in message
    assert "\n" not in message


def test_wrong_environment_variable_is_named_as_the_operator_wrote_it() -> None:
    with pytest.raises(ConfigError, match="setting ASGI_AUDIT_PORT is 'x'; accepted: a whole number"):
        make_settings({"ASGI_AUDIT_PORT": "x"})


def test_unknown_names_are_refused_and_other_programs_variables_are_not() -> None:
    with pytest.raises(ConfigError, match=r"'colour' is not a setting; accepted are .*service"):
        make_settings({}, colour="red")
    environment = {
        "COLOUR": "red",
        "ASGI_AUDIT_TEST_X": "1",
        "ASGI_AUDIT_URL": "u",
        "ASGI_AUDIT_KEY": "k",
        "ASGI_AUDIT_COLOUR": "red",
    }
    assert make_settings(environment) == Settings()
    ((name, said),) = warnings_about(environment, {}).items()
    assert said == f"the environment variable {name} is not a setting of this version and has no effect"
    assert name == "ASGI_AUDIT_COLOUR"


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("delivery", "durabel", "durable"),
        ("delivery", "Buffered", "buffered"),
        ("detail", "header", "headers"),
        ("enabled", "flase", "false"),
        ("log_format", "jsn", "json"),
        ("kafka_sasl_mechanism", "scram-sha-265", "SCRAM-SHA-256"),
        ("transport", "kafak://broker:9092/t", "kafka"),
        ("transport", "jurnal:///x", "journal"),
        ("store", "sqlite3:///x", "sqlite"),
    ],
)
def test_wrong_word_names_the_accepted_one_that_it_resembles(name: str, value: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean {meant}\?$"):
        make_settings({}, **{name: value})


def test_wrong_name_names_the_setting_that_it_resembles() -> None:
    with pytest.raises(ConfigError, match=r"^'servce' is not a setting; did you mean service\?$"):
        make_settings({}, servce="shop")
    assert warnings_about({"ASGI_AUDIT_DELIVRY": "durable"}, {})["ASGI_AUDIT_DELIVRY"].endswith(
        "has no effect; did you mean ASGI_AUDIT_DELIVERY?"
    )


def test_no_word_is_guessed_when_none_resembles() -> None:
    with pytest.raises(ConfigError, match=r"one of buffered, durable$"):
        make_settings({}, delivery="x" * 10_000)


def test_everything_meets_in_the_home_when_no_url_is_given(tmp_path: Path) -> None:
    relative, absolute = make_settings({}), make_settings({}, home=tmp_path)
    assert url_path(relative.transport_url) == Path(".asgi-audit/journal")
    assert url_path(absolute.transport_url) == tmp_path / "journal"
    assert url_path(absolute.store_url) == tmp_path / "index"
    assert absolute.control_path == tmp_path / "control.db"


def test_paths_are_made_absolute_when_a_tool_refuses_blocking_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BlockBuster replaces os.getcwd by a function that raises while a loop runs, and frameworks make middleware inside
    a running loop."""
    monkeypatch.chdir(tmp_path)

    def refused() -> str:
        raise RuntimeError("Blocking call to os.getcwd")

    monkeypatch.setattr("os.getcwd", refused)
    assert make_settings({}).absolute().home == tmp_path / ".asgi-audit"


def test_paths_are_those_of_today_when_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spellings = [
        {},
        {"home": "./.asgi-audit"},
        {"home": "x/../.asgi-audit"},
        {"transport": "journal:///.asgi-audit/journal"},
        {"transport": f"journal:///{tmp_path}/.asgi-audit//journal"},
        {"transport": "kafka://broker:9092/t", "journal": ".asgi-audit/journal"},
    ]
    made = [make_settings({}, **given).absolute() for given in spellings]
    assert {m.journal_path for m in made} == {tmp_path / ".asgi-audit/journal"}
    assert {m.transport_url for m in made[:-1]} == {f"journal:///{tmp_path}/.asgi-audit/journal"}
    assert made[-1].transport_url == "kafka://broker:9092/t"
    assert {m.control_path for m in made} == {tmp_path / ".asgi-audit/control.db"}
    stored = make_settings({}, store="sqlite:///i", transport="memory://", kafka_ca_file="ca.pem").absolute()
    assert (stored.store_url, stored.transport) == (f"sqlite:///{tmp_path}/i", "memory://")
    assert stored.kafka_ca_file == tmp_path / "ca.pem"
    assert all(m.absolute() == m for m in made)


def test_paths_stay_relative_when_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert make_settings({}).absolute() == make_settings({})


@pytest.mark.parametrize("name", ["with space", "what?", "a#b", "100%", "x%20y", "é"])
def test_home_survives_the_url_when_its_name_has_special_characters(name: str, tmp_path: Path) -> None:
    settings = make_settings({}, home=tmp_path / name)
    assert url_path(settings.transport_url) == tmp_path / name / "journal"


@pytest.mark.parametrize("url", ["journal:", "journal:/x", "journal://", "journal://host/x", "journal:///"])
def test_url_path_is_a_config_error_when_no_directory_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="names no directory"):
        url_path(url)


def test_request_id_header_is_lower_case_and_empty_turns_it_off() -> None:
    assert make_settings({}, request_id_header="X-Trace").request_id_header == "x-trace"
    assert make_settings({}, request_id_header=None).request_id_header is None
    assert make_settings({"ASGI_AUDIT_REQUEST_ID_HEADER": ""}).request_id_header is None


def test_names_are_split_at_commas_when_they_come_as_text() -> None:
    assert make_settings({"ASGI_AUDIT_REDACT_NAMES": "pin, iban ,"}).redact_names == ("pin", "iban")


def test_table_holds_every_field_once_with_help_and_environment_name() -> None:
    rows = table()
    assert [row[0] for row in rows] == [f.name for f in dataclasses.fields(Settings)]
    for name, environment, _, help, only in rows:
        assert environment == environment_name(name) == "ASGI_AUDIT_" + name.upper()
        assert help.endswith(".")
        assert only in ("", "middleware", "server")


def test_repr_shows_only_what_differs_from_the_defaults() -> None:
    assert repr(Settings(service="gateway")) == "Settings(service='gateway')"


# Settings of version 0.1.0 that are constants now.


@pytest.mark.parametrize("name", ["queue_max", "flush_seconds", "segment_bytes", "page_bytes_max", "kafka_compression"])
def test_retired_setting_warns_and_has_no_effect_however_it_is_given(name: str) -> None:
    variable = "ASGI_AUDIT_" + name.upper()
    assert make_settings({variable: "whatever"}, **{name: "whatever"}) == Settings()
    refuse_others([name])
    found = warnings_about({variable: "whatever"}, {name: "whatever"})
    assert list(found) == [name, variable]
    for shown, text in found.items():
        assert text.startswith(f"setting {shown} has no effect any more: ")
        assert text.endswith("; remove it; the next version will not know it")
    assert warnings_about({}, {name: None}) == {}


@pytest.mark.parametrize("name", ["transport", "store"])
@pytest.mark.parametrize("value", ["/var/lib/x", "./x", "x", "a/b c", Path("/var/lib/x"), "~x"])
def test_plain_path_goes_wherever_an_address_of_a_directory_goes(name: str, value: str | Path) -> None:
    made = make_settings({}, **{name: value})
    assert (made.journal_path if name == "transport" else made.store_path) == Path(value)
    if isinstance(value, str):
        assert make_settings({environment_name(name): value}) == made


@pytest.mark.parametrize("name", ["transport", "store"])
@pytest.mark.parametrize("value", ["kafka", "Journal", "memory", "broker:9092/topic", "user@host/topic", "a?b", "a#b"])
def test_what_may_be_an_address_without_its_scheme_is_no_path(name: str, value: str) -> None:
    """It would become a directory of that name, and records would go there silently."""
    with pytest.raises(ConfigError, match=f"^setting {name} is .*accepted: a path or "):
        make_settings({}, **{name: value})


# Settings of an application.


def parts(hint: Any) -> set[Any]:
    """The members of a union, or the type itself; literal words count as str."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return {str if typing.get_origin(m) is typing.Literal else m for m in members}


def test_types_of_an_applications_settings_are_its_rows_of_the_table() -> None:
    """An application may pass the stored value, or the input of the check: a path as text."""
    hints, kept = typing.get_type_hints(ApplicationSettings), typing.get_type_hints(Settings)
    assert list(hints) == [f.name for f in dataclasses.fields(Settings) if f.metadata["only"] != "server"]
    for name, hint in hints.items():
        assert parts(kept[name]) - {type(None)} <= parts(hint), name
        assert (type(None) in parts(hint)) == (name == "request_id_header"), name  # elsewhere None means not given


def test_words_that_the_types_complete_are_those_that_are_accepted() -> None:
    seen = 0
    for name, hint in typing.get_type_hints(ApplicationSettings).items():
        words = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        for word in words:
            assert getattr(make_settings({}, **{name: word}), name) == word
            seen += 1
        if words:
            with pytest.raises(ConfigError) as caught:
                make_settings({}, **{name: "no such word"})
            assert str(caught.value).endswith("one of " + ", ".join(word for word in words if word))
    assert seen == 14


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Settings) if f.metadata["only"] == "server"])
def test_setting_of_the_index_is_refused_in_an_application(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^'{name}' is not a setting of an application: it belongs to the index or the API"
    ):
        AuditMiddleware(None, **{name: "1"})  # type: ignore[arg-type, misc]


def test_misspelled_setting_of_an_application_names_only_what_it_accepts() -> None:
    with pytest.raises(ConfigError, match=r"^'servce' is not a setting; did you mean service\?$"):
        refuse_others(["servce"])
    with pytest.raises(ConfigError, match=r"^'x' is not a setting; accepted are enabled, home") as caught:
        refuse_others(["x"])
    assert "retention_days" not in str(caught.value)


KUBERNETES = {
    "ASGI_AUDIT_PORT": "tcp://10.0.0.11:8400",
    "ASGI_AUDIT_METRICS_PORT": "tcp://10.0.0.12:9400",  # of a Service called asgi-audit-metrics
    "ASGI_AUDIT_SERVICE_HOST": "10.0.0.11",
    "ASGI_AUDIT_SERVICE_PORT": "8400",
    "ASGI_AUDIT_SERVICE_PORT_HTTP": "8400",
    "ASGI_AUDIT_PORT_8400_TCP": "tcp://10.0.0.11:8400",
    "ASGI_AUDIT_PORT_8400_TCP_PROTO": "tcp",
    "ASGI_AUDIT_PORT_8400_TCP_PORT": "8400",
    "ASGI_AUDIT_PORT_8400_TCP_ADDR": "10.0.0.11",
    "ASGI_AUDIT_INDEX_SERVICE_HOST": "fd00::1",
    "ASGI_AUDIT_INDEX_PORT": "tcp://[fd00::1]:8400",
}


def test_variables_that_kubernetes_makes_of_a_service_are_passed_over() -> None:
    assert make_settings(KUBERNETES) == Settings()
    assert warnings_about(KUBERNETES, {}) == {}
    assert make_settings(KUBERNETES | {"ASGI_AUDIT_SERVICE": "shop"}).service == "shop"
    with pytest.raises(ConfigError, match="ASGI_AUDIT_PORT is "):
        make_settings({"ASGI_AUDIT_PORT": "tcp://somewhere"})


def test_wrong_variable_of_the_index_does_not_stop_an_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for f in dataclasses.fields(Settings):
        if f.metadata["only"] == "server":
            monkeypatch.setenv(environment_name(f.name), "/ wrong /")
    assert application_settings(home=tmp_path).home == tmp_path
    with pytest.raises(ConfigError, match="/ wrong /"):
        settings_from()
