"""Packed ids in day files of version 2: the usual forms are stored as 16 bytes, half the size of their text or less.
Any other text is stored unchanged, and no two texts share a packed form."""

from __future__ import annotations

__all__ = ["Packed", "pack_hex", "pack_uuid", "unpack_hex", "unpack_uuid"]

Packed = str | bytes


def pack_uuid(text: str) -> Packed:
    """A UUID in lower case with its hyphens becomes bytes."""
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-" and text.count("-") == 4:
        return _packed(text, text.replace("-", ""))
    return text


def pack_hex(text: str) -> Packed:
    """32 hexadecimal digits in lower case become bytes."""
    return _packed(text, text) if len(text) == 32 else text


def unpack_uuid(packed: Packed) -> str:
    if isinstance(packed, str):
        return packed
    h = packed.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def unpack_hex(packed: Packed) -> str:
    return packed if isinstance(packed, str) else packed.hex()


def _packed(text: str, digits: str) -> Packed:
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return text
    return packed if packed.hex() == digits else text
