"""What a client may be given for one append to several streams, as the protocol wants it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from hf_agent.ingest.append_messages import Part

__all__ = ["AppendPart", "joined"]

Data: TypeAlias = bytes | bytearray | memoryview

AppendPart: TypeAlias = tuple[str, Data] | tuple[str, Data, int | None]
"""A stream, what to append to it, and (if given) the position where that is expected to be."""


def joined(parts: Iterable[AppendPart]) -> tuple[list[Part], bytes]:
    """The parts without their data, and all data. Raises `ValueError` for a stream named twice."""
    described: list[Part] = []
    pieces: list[bytes] = []
    for stream, data, *expect in parts:
        piece = bytes(data)
        described.append(Part(stream, len(piece), expect[0] if expect else None))
        pieces.append(piece)
    if not described:
        raise ValueError("an append to several streams needs at least one part")
    if len({part.stream for part in described}) < len(described):
        raise ValueError("two parts are of the same stream; join their data")
    return described, b"".join(pieces)
