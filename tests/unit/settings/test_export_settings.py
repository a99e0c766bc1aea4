"""Settings of exports: accepted values, and their parsed form."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_audit.errors import ConfigError
from asgi_audit.settings import Settings, make_settings
from asgi_audit.wiring.exports import public_url


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("us-std=global", {"us-std": "global"}),
        (" a = b , c=* ", {"a": "b", "c": "*"}),
        ({"a": "eu"}, {"a": "eu"}),
        ([["a", "eu"]], {"a": "eu"}),  # as a worker gets them
        ("", {"us-std": "global", "eu-std": "eu", "classic": "*"}),
    ],
)
def test_region_groups(value: object, found: dict[str, str]) -> None:
    assert make_settings({}, export_regions=value).regions_of_groups == found


@pytest.mark.parametrize("value", ["a", "a=", "=b", "a=b,a=c", "a b=c", "a=b c", 7, ["a"], "a=**"])
def test_wrong_region_groups_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="us-std=global"):
        make_settings({}, export_regions=value)


@pytest.mark.parametrize(
    "value", ["audit.example.com", "ftp://a", "https://user:secret@a", "https://a?x=1", "https://a#b", "https://", 7]
)
def test_wrong_urls_are_refused_without_what_may_be_a_password(value: object) -> None:
    for name in ("public_url", "export_endpoint"):
        with pytest.raises(ConfigError, match=r"https://audit\.example\.com") as caught:
            make_settings({}, **{name: value})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["bucket", "s3://", "s3://B", "s3:///x", "https://s3/bucket", "s3://b/x?y", 7])
def test_wrong_buckets_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="s3://bucket"):
        make_settings({}, export_bucket=value)


def test_last_slash_goes() -> None:
    made = make_settings({}, public_url="https://example.com/audit/", export_bucket="s3://bucket/a/b/")
    assert (made.public_url, made.export_bucket) == ("https://example.com/audit", "s3://bucket/a/b")


@pytest.mark.parametrize("days", [0, -1, "x"])
def test_exports_are_kept_for_a_day_at_least(days: object) -> None:
    with pytest.raises(ConfigError, match="from 1 to"):
        make_settings({}, export_days=days)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"public_url": "https://audit.example.com"}, "https://audit.example.com"),
        ({}, "http://127.0.0.1:8400"),
        ({"host": "0.0.0.0", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "::"}, "http://[::1]:8400"),
        ({"host": "audit.internal"}, "http://audit.internal:8400"),
    ],
)
def test_urls_begin_with_the_public_url_or_where_serve_listens(given: dict[str, object], url: str) -> None:
    assert public_url(Settings(**given)) == url  # type: ignore[arg-type]


def test_exports_go_into_the_home_by_default(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).exports_path == tmp_path / "exports"
    assert Settings(home=tmp_path, export_path=Path("x")).absolute().exports_path.is_absolute()
