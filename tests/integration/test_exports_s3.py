"""Exports in S3-compatible storage, against a server that checks signatures."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support import s3
from tests.support.exports import ACME, World, exports_of

from asgi_audit.control.exports import State
from asgi_audit.errors import AuditError, ConfigError
from asgi_audit.exporting.base import TargetError, manifest_name, object_name
from asgi_audit.exporting.runner import PATIENCE_MS
from asgi_audit.settings import Settings
from asgi_audit.wiring.exports import open_target

pytest.importorskip("boto3", reason="boto3 is not installed: pip install 'asgi-audit[s3]'")
from asgi_audit.exporting.s3 import S3Target

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = s3.found()
    if command is None:
        pytest.skip(s3.HOW_TO_GET_ONE)
    with s3.serving(command, tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.fixture
def world(tmp_path: Path, endpoint: str) -> Iterator[World]:
    made = World(tmp_path)
    made.runner = made.new_runner(target=target_at(endpoint, made))
    yield made
    made.close()


def target_at(endpoint: str, world: World, bucket: str = s3.BUCKET, prefix: str = "a/b") -> S3Target:
    return S3Target(bucket, prefix, work=world.directory, endpoint=endpoint)


def test_object_is_got_by_the_storages_own_url(world: World, endpoint: str) -> None:
    world.add(50)
    export = world.settle(world.ask())
    assert export.state is State.COMPLETE
    assert world.files() == []  # the part is removed when the object is stored
    service = exports_of(world.control)
    service._target = target_at(endpoint, world)
    url, manifest_url = service.presign(ACME, export)
    assert url.url.startswith(f"{endpoint}/{s3.BUCKET}/a/b/{object_name(export.id)}?")
    got = httpx.get(url.url)
    assert got.status_code == 200
    assert got.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in got.headers
    lines = gzip.decompress(got.content).splitlines()
    assert len(lines) == 50
    beside = httpx.get(manifest_url)
    assert beside.headers["content-type"] == "application/json"
    assert (
        hashlib.sha256(beside.content).hexdigest() == export.manifest == got.headers["x-amz-meta-audit-manifest-sha256"]
    )
    assert json.loads(beside.content)["records"] == 50
    assert httpx.get(url.url, headers={"range": "bytes=0-9"}).content == got.content[:10]


def test_urls_that_are_forged_altered_or_expired_are_refused(world: World, endpoint: str) -> None:
    world.add(1)
    export = world.settle(world.ask())
    target = target_at(endpoint, world)
    good = target.presign(export.id, 3600, world.now)
    assert good is not None
    assert "X-Amz-Signature=" in good.url
    assert httpx.get(good.url).status_code == 200
    signature = re.search(r"X-Amz-Signature=([0-9a-f]+)", good.url)
    assert signature is not None
    expired = target._client.generate_presigned_url(
        "get_object", Params={"Bucket": s3.BUCKET, "Key": f"a/b/{object_name(export.id)}"}, ExpiresIn=-10
    )
    for wrong in (
        good.url.partition("?")[0],
        good.url.replace(signature[1], "0" * 64),
        good.url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
        good.url.replace(object_name(export.id), manifest_name(export.id)),
        expired,
    ):
        assert httpx.get(wrong).status_code in (400, 403), wrong


def test_large_object_is_uploaded_in_parts_and_again_after_an_upload_was_killed(
    world: World, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_audit.exporting.s3._PART_BYTES", 5 << 20)  # the minimum of S3
    target = target_at(endpoint, world)
    export = world.ask()
    part = world.directory / f"{export.id}.part"
    world.directory.mkdir(mode=0o700)
    data = os.urandom(12 << 20)
    part.write_bytes(data)

    class Killed(BaseException):
        pass

    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 40:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target._client, "abort_multipart_upload", lambda **_: None)  # a killed process aborts nothing
        with pytest.raises(Killed):
            target.put(export.id, part, b"{}", beat)
    key = f"a/b/{object_name(export.id)}"
    client = target._client
    assert client.list_objects_v2(Bucket=s3.BUCKET, Prefix=key).get("KeyCount", 0) == 0
    target_at(endpoint, world).put(export.id, part, b"{}", lambda: None)
    assert client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read() == data
    assert not client.list_multipart_uploads(Bucket=s3.BUCKET, Prefix=key).get("Uploads")


def test_object_and_manifest_are_removed_after_the_days(world: World, endpoint: str) -> None:
    world.add(1)
    export = world.settle(world.ask())
    client = target_at(endpoint, world)._client
    assert client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"a/b/{export.id}")["KeyCount"] == 2
    world.now += 7 * 86_400
    world.runner.step()
    assert client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"a/b/{export.id}")["KeyCount"] == 0
    assert world.exports.over(days=0) == []


@pytest.mark.parametrize("wrong", ["bucket", "secret", "nobody"])
def test_export_fails_when_storage_refuses_for_good(
    world: World, endpoint: str, wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if wrong == "secret":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    elif wrong == "nobody":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    world.add(1)
    target = target_at(endpoint, world, "no-such-bucket" if wrong == "bucket" else s3.BUCKET)
    found = world.settle(world.ask(), world.new_runner(target=target))
    assert (found.state, found.reason) == (State.FAILED, "its object could not be stored; the server's log says why")
    assert world.files() == []
    assert "hunter2" not in caplog.text


def test_storage_that_is_away_is_tried_again_and_then_fails(world: World, tmp_path: Path) -> None:
    world.add(1)
    away = target_at("http://127.0.0.1:9", world)
    export, runner = world.ask(), world.new_runner(target=away)
    for _ in range(4):
        runner.step()
    assert world.get(export).state is State.CREATING
    world.now += PATIENCE_MS / 1000
    assert world.settle(export, runner).state is State.FAILED
    assert world.files() == []


def test_bucket_that_cannot_be_used_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match="export_bucket"):
        open_target(Settings(home=tmp_path, export_bucket="s3://bucket/a"))


def _vendor_errors() -> list[type[Exception]]:
    import boto3.exceptions
    import botocore.exceptions

    found: list[type[Exception]] = []
    for module in (boto3.exceptions, botocore.exceptions):
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.__name__
        ]
    return found


@pytest.mark.parametrize("error", _vendor_errors(), ids=lambda e: e.__name__)
def test_every_error_of_the_library_is_translated(error: type[Exception]) -> None:
    import warnings

    from asgi_audit.exporting.s3 import _errors

    if issubclass(error, Warning):
        return
    made: Any = error.__new__(error)
    made.response = {"Error": {"Code": "SlowDown"}}
    with warnings.catch_warnings(), pytest.raises(TargetError) as caught, _errors("storing an object"):
        raise made
    assert isinstance(caught.value, AuditError)
    assert "storing an object failed" in str(caught.value)
