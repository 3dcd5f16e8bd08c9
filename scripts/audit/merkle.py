"""The Merkle tree hash of RFC 6962, section 2.1, over sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def root(leaves: Sequence[bytes]) -> str:
    """Hex hash of the tree over these leaves, in their order; that of no leaf is the sha256 of nothing.

    A leaf's hash is sha256(0x00 | leaf), a node's sha256(0x01 | left | right); the left subtree holds the largest power
    of two of leaves that is smaller than their number.
    """
    return (_hash(leaves) if leaves else hashlib.sha256(b"").digest()).hex()


def _hash(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _hash(leaves[:left]) + _hash(leaves[left:])).digest()
