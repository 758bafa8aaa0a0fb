"""Fingerprint of an inode: names the state that a checkpoint was built on."""

from __future__ import annotations

from hf_agent.hyperfile.inode import FLAG_COMPACTION, INODE_BYTES, with_flags

__all__ = ["fingerprint", "fingerprints_of_state"]

_OFFSET_BASIS = 0xCBF2_9CE4_8422_2325
_PRIME = 0x100_0000_01B3
_MASK = (1 << 64) - 1
_LAST_SEQ = slice(88, 96)


def fingerprint(inode: bytes) -> int:
    """FNV-1a, 64 bits, over an inode's 160 bytes with `last_seq` taken as zero; never 0.

    `last_seq` is left out because numbers that were skipped do not change the file.
    Raises `ValueError` when `inode` is not 160 bytes long.
    """
    if len(inode) != INODE_BYTES:
        raise ValueError(f"an inode has {INODE_BYTES} bytes length={len(inode)}")
    value = _OFFSET_BASIS
    for byte in inode[: _LAST_SEQ.start] + bytes(8) + inode[_LAST_SEQ.stop :]:
        value = (value ^ byte) * _PRIME & _MASK
    return value or 1


def fingerprints_of_state(inode: bytes) -> frozenset[int]:
    """What later checkpoints may name this state by: an attached compaction sets a flag in it."""
    return frozenset(
        (
            fingerprint(with_flags(inode, clear=FLAG_COMPACTION)),
            fingerprint(with_flags(inode, set=FLAG_COMPACTION)),
        )
    )
