"""Export objects in S3-compatible storage, downloaded through its presigned URLs.

The client is boto3: it finds credentials in all usual places of AWS (environment, profile, instance, web identity), and
uploads in parts with retries. Invariants: the manifest is stored before the object. An object is visible completely or
not at all (S3 shows a multipart upload only when completed). Parts left by a killed upload are aborted before the next
upload, and when the export fails or is removed. Memory: one part of `_PART_BYTES` at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    MissingServiceIdError,
    NoCredentialsError,
    PartialCredentialsError,
    UndefinedModelAttributeError,
)

from .base import CONTENT_TYPE, Presigned, TargetError, manifest_name, object_name

__all__ = ["S3Target"]

_PART_BYTES = 8 << 20  # S3 allows 10,000 parts; boto3 uses larger parts for a larger object
_FOR_GOOD = frozenset(
    ("AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "InvalidBucketName", "NoSuchBucket", "403", "404",
     "PermanentRedirect", "SignatureDoesNotMatch", "EntityTooLarge", "AuthorizationHeaderMalformed")
)  # fmt: skip


class S3Target:
    """`prefix`: prefix of all object keys, '' for none. `work`: directory of parts before their upload. Raises
    TargetError when no region or no credentials are found."""

    def __init__(self, bucket: str, prefix: str, *, work: Path, endpoint: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._work = work
        config = Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "max_attempts": 3},
            # Compatible storage often lacks virtual hosts and checksums newer than MD5.
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with _errors("reaching the storage"):
            session = boto3.session.Session()
            self._client = session.client(
                "s3",
                endpoint_url=endpoint or None,
                region_name=session.region_name or "us-east-1",
                config=config,
            )
        self._transfer = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False
        )

    @property
    def work(self) -> Path:
        return self._work

    def finished(self, id_: str) -> bytes | None:
        return None  # uploading it again gives the same result

    def put(self, id_: str, part: Path, manifest: bytes, beat: Callable[[], None]) -> None:
        with _errors("storing an object"):
            self._abort_uploads(id_)
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + manifest_name(id_),
                Body=manifest,
                ContentType="application/json",
            )
            beat()
            self._client.upload_file(
                str(part),
                self._bucket,
                self._prefix + object_name(id_),
                ExtraArgs={
                    "ContentType": CONTENT_TYPE,
                    "ContentDisposition": f'attachment; filename="{object_name(id_)}"',
                    "Metadata": {
                        "audit-manifest": self._prefix + manifest_name(id_),
                        "audit-manifest-sha256": hashlib.sha256(manifest).hexdigest(),
                    },
                },
                Config=self._transfer,
                Callback=lambda _: beat(),
            )

    def discard(self, id_: str) -> None:
        with _errors("removing the rest of an upload"):
            self._abort_uploads(id_)
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + manifest_name(id_))

    def remove(self, id_: str) -> None:
        with _errors("removing an object"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + object_name(id_))
        self.discard(id_)

    def presign(self, id_: str, seconds: int, now: float, *, manifest: bool = False) -> Presigned | None:
        key = self._prefix + (manifest_name(id_) if manifest else object_name(id_))
        with _errors("signing a URL"):
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": key},
                ExpiresIn=seconds,
            )
        return Presigned(url, int(now) + seconds)

    def open_path(self, id_: str, *, manifest: bool = False) -> Path | None:
        return None

    def _abort_uploads(self, id_: str) -> None:
        key = self._prefix + object_name(id_)
        found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
        for upload in found.get("Uploads", ()):
            if upload["Key"] == key:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload["UploadId"])


@contextlib.contextmanager
def _errors(operation: str) -> Iterator[None]:
    """Translates boto3's exceptions into TargetErrors. Their texts contain keys and buckets, but no secret."""
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, MissingServiceIdError, UndefinedModelAttributeError) as e:
        cause = e if isinstance(e, ClientError) else e.__context__
        code = cause.response.get("Error", {}).get("Code", "") if isinstance(cause, ClientError) else ""
        is_for_good = code in _FOR_GOOD or isinstance(e, (NoCredentialsError, PartialCredentialsError))
        raise TargetError(
            f"{operation} failed: {type(e).__name__}{f' ({code})' if code else ''}",
            retriable=not is_for_good,
            hint="Check export_bucket, export_endpoint and the AWS credentials.",
        ) from e
