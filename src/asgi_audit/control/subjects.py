"""Ids of callers whom an issuer's tokens name. They stand where the id of a key does: limits, sessions, signed URLs.

An id is made of digests of issuer and subject, so it is short, tells no name, and shows whether the issuer is still the
one that is accepted.
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
    """How records name the caller with this id, where no more of it is known."""
    return id_ if id_.startswith("jwt_") else f"key:{id_}"


def _start(issuer: str) -> str:
    return f"jwt_{_digest(issuer)[:8]}_"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
