"""The tree, compared with RFC 6962's recursive definition and with published hashes of the RFC's test data."""

from __future__ import annotations

import hashlib

import pytest
from tests.support.digest import root_of

from asgi_audit.record.merkle import EMPTY_ROOT, Tree, leaf_hash, statement_digest


def _by_definition(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + _by_definition(leaves[:k]) + _by_definition(leaves[k:])).digest()


@pytest.mark.parametrize("size", [*range(35), 64, 65, 127, 1000])
def test_root_equals_the_definition_for_any_size(size: int) -> None:
    leaves = [leaf_hash(str(i).encode()) for i in range(size)]
    assert root_of(leaves) == _by_definition(leaves)


def test_root_equals_known_vectors_of_certificate_transparency() -> None:
    # Inputs and roots of the reference implementation of RFC 6962 ("ReferenceMerkleTreeTest").
    inputs = [bytes.fromhex(h) for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root_of([leaf_hash(i) for i in inputs[:1]]).hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert root_of([leaf_hash(i) for i in inputs[:2]]).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )
    assert root_of([leaf_hash(i) for i in inputs[:3]]).hex() == (
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    )


@pytest.mark.parametrize("size", [0, 1, 5, 8, 100])
def test_tree_goes_on_from_its_stack_when_taken_up_again(size: int) -> None:
    leaves = [leaf_hash(str(i).encode()) for i in range(size + 7)]
    first = Tree()
    for leaf in leaves[:size]:
        first.append(leaf)
    second = Tree(first.size, first.stack)
    for leaf in leaves[size:]:
        second.append(leaf)
    assert (second.size, second.root()) == (len(leaves), _by_definition(leaves))
    assert (first.size, first.root()) == (size, _by_definition(leaves[:size]))


@pytest.mark.parametrize("size", [0, 1, 2046, 2047, 2048, 4094, 65_536, 65_537, 200_000])
def test_leaf_hash_equals_the_definition_for_any_size(size: int) -> None:
    record = bytes(i % 251 for i in range(size))
    assert leaf_hash(record) == hashlib.sha256(b"\x00" + record).digest()


def test_statement_digest_is_the_sha256_of_its_bytes() -> None:
    assert statement_digest(b"{}") == hashlib.sha256(b"{}").hexdigest()
