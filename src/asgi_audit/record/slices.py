"""Cuts a record into the slices from which responses are joined. Only this file knows the places of the cuts.

A usage entry is the stored record up to `context`. A trail entry has no `service` and `instance_id`, and the service
inside `metadata`. The offsets are found once, when a record is indexed, from the lengths of its decoded parts; never by
searching, because a body may contain any text. They are stored beside the record."""

from __future__ import annotations

import struct

import msgspec

__all__ = ["Cuts", "pack_cuts", "trail_slice", "unpack_cuts", "usage_slice"]

_FORMAT = struct.Struct("<5I")


class Cuts(msgspec.Struct, frozen=True, gc=False):
    """Byte offsets into one record in wire order."""

    account_end: int  # of the comma before "service"
    service_end: int  # of the comma before "instance_id"
    instance_end: int  # of the comma before "metadata"
    metadata_end: int  # of the brace that closes the metadata object
    timestamp_end: int  # of the comma before "context", or of the record's last brace


def pack_cuts(cuts: Cuts) -> bytes:
    """20 bytes, little endian."""
    return _FORMAT.pack(cuts.account_end, cuts.service_end, cuts.instance_end, cuts.metadata_end, cuts.timestamp_end)


def unpack_cuts(data: bytes) -> Cuts:
    return Cuts(*_FORMAT.unpack(data))


def usage_slice(record: bytes, cuts: Cuts) -> bytes:
    """The record with the documented fields of usage."""
    return record[: cuts.timestamp_end] + b"}"


def trail_slice(record: bytes, cuts: Cuts) -> bytes:
    """The record with the documented fields of trail: `service` inside `metadata`, no `instance_id`."""
    return b"".join(
        (
            record[: cuts.account_end],
            record[cuts.instance_end : cuts.metadata_end],
            record[cuts.account_end : cuts.service_end],
            record[cuts.metadata_end : cuts.timestamp_end],
            b"}",
        )
    )
