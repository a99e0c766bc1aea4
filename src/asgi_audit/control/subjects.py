"""Ids for callers with tokens of an issuer. They are used like the id of a key: for limits, sessions, signed URLs.

An id consists of digests of issuer and subject. So it is short, reveals no name, and shows whether it belongs to the
issuer that is accepted now.
"""

from __future__ import annotations

import hashlib

__all__ = ["is_subject_of", "principal_of", "subject_id"]


def subject_id(issuer: str, subject: str) -> str:
    return f"{_start(issuer)}{_digest(f'{issuer}{chr(0)}{subject}')[:16]}"


def is_subject_of(issuer: str, id_: str) -> bool:
    """Whether `id_` is of a subject of `issuer`; False for '', no issuer."""
    return bool(issuer) and id_.startswith(_start(issuer))


def principal_of(id_: str) -> str:
    """The principal in records for the caller with this id, when its name is not known."""
    return id_ if id_.startswith("jwt_") else f"key:{id_}"


def _start(issuer: str) -> str:
    return f"jwt_{_digest(issuer)[:8]}_"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
