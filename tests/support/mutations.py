"""Random damage to containers, where it hurts."""

from __future__ import annotations

import random
import struct
import zlib

from support.memory_store import MemoryStore


def mutate(store: MemoryStore, rng: random.Random) -> str:
    """Damage one object, where it hurts; says how."""
    if not store.objects:
        return "nothing left"
    key = rng.choice(sorted(store.objects))
    body = bytearray(store.body(key))
    kind = rng.choice(["flip", "flip", "word", "word", "cut", "swap", "drop", "node", "grow"])
    structural = [at for at in (0, len(body) - 256) if at >= 0]
    at = rng.choice(structural) + rng.randrange(256) if rng.random() < 0.7 and body else 0
    at = min(at, max(len(body) - 8, 0))
    if kind == "flip" and body:
        body[at] ^= 1 << rng.randrange(8)
    elif kind == "word" and len(body) >= 8:
        width = rng.choice([1, 2, 4, 8])
        value = rng.choice([0, 1, 255, 1 << 31, (1 << 64) - 1, rng.getrandbits(64)])
        body[at : at + width] = value.to_bytes(8, "little")[:width]
    elif kind == "cut":
        del body[rng.randrange(len(body) + 1) :]
    elif kind == "grow":
        body += rng.randbytes(rng.choice([1, 64, 5000]))
    elif kind == "swap":
        body = bytearray(store.body(rng.choice(sorted(store.objects))))
    elif kind == "node" and len(body) > 8192:
        # A word of what may be a map node, or a pointer to another place.
        at = rng.randrange(len(body) // 4096) * 4096 + rng.choice([0, 8, 16, 2048, 2056, 2064])
        place = 1 << 62 | rng.randrange(9) << 32 | rng.randrange(64) << 14 | rng.randrange(3)
        if at + 8 <= len(body):
            body[at : at + 8] = struct.pack("<Q", place)
    elif kind == "drop":
        del store.objects[key]
        return f"{key} {kind}"
    if body[-256:-252] == b"HFST" and rng.random() < 0.7:
        body[-4:] = struct.pack("<I", zlib.crc32(body[-256:-4]))
    store.put(key, bytes(body))
    return f"{key} {kind} at {at}"
