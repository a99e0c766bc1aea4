"""Downloads an export and checks it while it arrives: its records and their digest against its manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

from .errors import ProtocolError
from .questions import MANIFEST_LINK, Export

__all__ = ["Download", "Incoming"]

_PIECE_BYTES = 4096


@dataclass(frozen=True)
class Download:
    """`path`: the gzip file. `records`: lines in it. `sha256`: of the uncompressed bytes, in hexadecimal. `manifest`:
    the server's statement, which was compared; None when the storage has no manifest."""

    path: Path
    records: int
    sha256: str
    manifest: Mapping[str, Any] | None


class Incoming:
    """One download. It is written to a temporary file beside `to`, which is renamed when it is complete and
    verified. Uses the memory of one chunk. Raises ProtocolError for an export without a URL."""

    def __init__(self, export: Export, to: Path, on_bytes: Callable[[int, int], None] | None) -> None:
        if export.url is None:
            raise ProtocolError(
                f"export {export.id} is {export.state}: there is nothing to download", hint=export.reason
            )
        self.url = export.url
        self._export = export
        self._to = to
        self._part = to.with_name(f"{to.name}.part")
        self._on_bytes = on_bytes or (lambda done, of: None)
        self._gunzip = zlib.decompressobj(wbits=31)
        self._digest = hashlib.sha256()
        self._lines = self._bytes = self._expected = 0
        self._headers: Mapping[str, str] = {}
        self._file: IO[bytes] | None = None

    @contextlib.contextmanager
    def writing(self, headers: Mapping[str, str]) -> Iterator[None]:
        """`headers`: of the response. An exception in the block removes the partial file."""
        self._headers = headers
        length = headers.get("content-length", "")
        self._expected = int(length) if length.isdigit() else 0
        try:
            with self._part.open("wb") as self._file:
                yield
        except BaseException:
            self.discard()
            raise

    def feed(self, data: bytes) -> None:
        """Raises ProtocolError for data that is not gzip. A file may have several members."""
        assert self._file is not None
        self._file.write(data)
        self._bytes += len(data)
        try:
            for at in range(0, len(data), _PIECE_BYTES):  # a chunk may become a thousand times longer
                self._unpack(data[at : at + _PIECE_BYTES])
        except zlib.error:
            raise ProtocolError("the download is not a gzip file", hint="Download it again.") from None
        self._on_bytes(self._bytes, self._expected)

    def _unpack(self, data: bytes) -> None:
        while data:
            if self._gunzip.eof:
                self._gunzip = zlib.decompressobj(wbits=31)
            text = self._gunzip.decompress(data)
            self._digest.update(text)
            self._lines += text.count(b"\n")
            data = self._gunzip.unused_data

    @property
    def manifest_url(self) -> str | None:
        """From the download's headers; if the storage does not send it, from the API's response about the export."""
        found = MANIFEST_LINK.search(self._headers.get("link", ""))
        return urljoin(self.url, found[1]) if found else self._export.manifest_url

    def end(self, manifest: bytes | None) -> Download:
        """`manifest`: the content of `manifest_url`, None without one. Raises ProtocolError, and removes the file, when
        they do not match."""
        try:
            stated = None if manifest is None else self._compared(manifest)
            if not self._gunzip.eof:
                raise ProtocolError("the download is cut", hint="Download it again.")
            os.replace(self._part, self._to)
        except BaseException:
            self.discard()
            raise
        return Download(self._to, self._lines, self._digest.hexdigest(), stated)

    def discard(self) -> None:
        self._part.unlink(missing_ok=True)

    def _compared(self, manifest: bytes) -> Mapping[str, Any]:
        if hashlib.sha256(manifest).hexdigest() != self._headers.get(
            "audit-manifest-sha256", self._export.manifest_sha256
        ):
            raise ProtocolError("the manifest is not the one that the download names")
        stated: Mapping[str, Any] = json.loads(manifest)
        found = {"records": self._lines, "sha256": self._digest.hexdigest(), "bytes_compressed": self._bytes}
        for name, value in found.items():
            if stated.get(name) != value:
                raise ProtocolError(
                    f"the download is not what its manifest states: {name} is {value}, stated is {stated.get(name)}",
                    hint="Download it again.",
                )
        return stated
