"""A loss entry: replaces a record that was lost after a statement had covered it.

Wire form: one line of JSON that begins `{"loss":"1.0"`. `leaf` is the RFC 6962 leaf hash of the record's exact bytes,
so that the Merkle root of the statement that covers it can still be checked without the record.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .line import Count, Ordinal, Time, decode_line

__all__ = ["Loss", "decode_loss", "encode_loss", "is_loss"]

_HEAD = b'{"loss":'


class Loss(msgspec.Struct, frozen=True, kw_only=True, rename={"version": "loss"}):
    """Sequence `sequence` of `process` was a record of `bytes` bytes; `reason` says why it is lost."""

    version: str = "1.0"
    process: str
    sequence: Ordinal
    at: Time  # ms since the epoch, when the loss was noticed
    reason: str  # one word: `refused` (by the broker)
    leaf: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]  # 64 hex digits: SHA-256(0x00 || record)
    bytes: Count
    detail: str = ""


_decoder = msgspec.json.Decoder(Loss)
_encoder = msgspec.json.Encoder()


def is_loss(data: bytes) -> bool:
    return data.startswith(_HEAD)


def encode_loss(loss: Loss) -> bytes:
    return _encoder.encode(loss)


def decode_loss(data: bytes) -> Loss:
    """Raises RecordError."""
    return decode_line(_decoder.decode, data, "loss entry")
