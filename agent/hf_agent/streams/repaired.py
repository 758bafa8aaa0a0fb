"""The note of a stream whose log was repaired, until the stream is attached to its container again.

A repair may not know whether bytes at a stream's end, or its newest bind, were lost. What the store
has of it is then told by the container alone: its newest checkpoint, when it is this log's, names
the stream position that it reaches. This note holds what the log still knew: the last bind that is
left, and between which two positions the stream's end may have been. Encoded as a msgpack array,
where a bind is a map.
"""

from __future__ import annotations

import msgspec

__all__ = ["Repaired", "decode_repaired", "encode_repaired", "is_repaired"]


class Repaired(msgspec.Struct, frozen=True, array_like=True):
    """Positions are bytes."""

    version: int
    bind: bytes
    """The last bind that is left, encoded; empty when there is none."""
    end: int
    """The stream's end in the repaired log: its next append begins here."""
    most: int
    """What was lost ended here at the latest. The store may have what is beyond `end` of it."""


_VERSION = 1
_ARRAY, _ARRAY_MASK = 0x90, 0xF0

_decoder = msgspec.msgpack.Decoder(Repaired)


def is_repaired(note: bytes) -> bool:
    """Whether a stream's note is one of these, and no bind."""
    return bool(note) and note[0] & _ARRAY_MASK == _ARRAY


def encode_repaired(note: bytes, end: int, most: int) -> bytes:
    """The note with which a stream goes on after a repair; `note` is the last one that is left."""
    if is_repaired(note):  # repaired twice, and not attached in between
        before = decode_repaired(note)
        note, end, most = before.bind, min(before.end, end), max(before.most, most)
    return msgspec.msgpack.encode(Repaired(_VERSION, note, end, most))


def decode_repaired(note: bytes) -> Repaired:
    """What `encode_repaired` made. Raises ValueError when it is not that, or of a later version."""
    try:
        repaired = _decoder.decode(note)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not the note of a repaired stream: {error}") from error
    if repaired.version != _VERSION:
        raise ValueError(
            f"note of a repaired stream, of an unknown version version={repaired.version}"
        )
    return repaired
