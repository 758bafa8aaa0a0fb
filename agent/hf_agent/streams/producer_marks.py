"""A producer's epoch and its highest id in one number: what a mark of the WAL is.

The number must only rise: the epoch stands in its upper bits, so that whatever has a lower one is
behind. In epoch 0, which is what producers without epochs have, the number is the id.
"""

from __future__ import annotations

from typing import Final

from hf_agent.ingest.sink import Mark

__all__ = ["known_of", "producer_mark"]

_ID_BITS: Final = 63
_ID_MASK: Final = (1 << _ID_BITS) - 1


def producer_mark(mark: Mark) -> int:
    """The number for an epoch and an id, both below 2**63."""
    return mark.epoch << _ID_BITS | mark.id


def known_of(producer: str, value: int) -> Mark:
    """What the number says of a producer; 0: nothing was heard of it."""
    return Mark(producer, value & _ID_MASK, value >> _ID_BITS)
