"""Damages bytes as networks, broken peers and attackers do: from a seeded `random.Random` alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["cuts", "mutated"]

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)
_BYTES = (0x00, 0x0A, 0x0D, 0x20, 0x3C, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC6, 0xC9, 0xD9, 0xDD, 0xDF)
"""Bytes that mean something in a protocol: line ends, frames, headers of msgpack."""


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Some of the corpus behind each other, with damage in a few places, or none."""
    data = bytearray(b"".join(rng.choices(corpus, k=rng.randint(1, 4))))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        # Headers are where it hurts, and they are mostly in front.
        near = min(len(data), 64) if rng.random() < 0.5 else len(data)
        _damage(rng, data, rng.randrange(near + 1), corpus)
    return bytes(data)


def _damage(rng: random.Random, data: bytearray, at: int, corpus: Sequence[bytes]) -> None:
    kind = rng.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.choice(_BYTES)
    elif kind == 2:
        number = rng.choice(_NUMBERS).to_bytes(4, "big")[rng.randrange(4) :]
        data[at : at + len(number)] = number
    elif kind == 3:
        del data[at : at + rng.choice((1, 1, 2, 4, 50))]
    elif kind == 4:
        data[at:at] = data[max(0, at - rng.randint(1, 40)) : at] * rng.choice((1, 1, 2, 30))
    elif kind == 5:
        data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
    elif kind == 6:
        other = rng.choice(corpus)
        data[at:] = other[rng.randrange(len(other) + 1) :]
    else:
        del data[at:]


def cuts(rng: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in some pieces."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
