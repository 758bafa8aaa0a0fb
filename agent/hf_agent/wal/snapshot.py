"""The payload of a SNAPSHOT record: all streams and marks, as one msgpack array.

Shape: `[[[number, name, position, committed, note], …], [[key, id], …]]`, streams by number, marks
`str` keys before `bytes` keys, each from
the least to the most recently raised one.
"""

from __future__ import annotations

from typing import Any

import msgpack

from hf_agent.wal.state import LogState, MarkKey, Marks, StreamState

__all__ = ["pack_marks", "pack_snapshot", "unpack_marks", "unpack_snapshot"]

_WORD_BITS = 63
_WORD = (1 << _WORD_BITS) - 1
"""The largest mark that is one msgpack integer; a larger one is a pair."""


def pack_snapshot(state: LogState) -> bytes:
    """The durable part of `state`, as it goes into a SNAPSHOT record."""
    streams = [
        [stream.number, stream.name, stream.durable, stream.committed, stream.durable_note]
        for stream in state.streams.values()
    ]
    return _pack([streams, [[key, _packed_value(value)] for key, value in state.marks.items()]])


def unpack_snapshot(payload: bytes, marks: Marks) -> LogState:
    """The state in a SNAPSHOT payload; its marks go into `marks`, which is empty.

    Raises `ValueError` when it is not of that shape.
    """
    state = LogState(marks=marks)
    try:
        streams, raised = _unpack(payload)
        for number, name, position, committed, note in streams:
            if not 0 <= committed <= position or number in state.streams:
                raise ValueError(f"stream {number} contradicts itself")
            stream = StreamState(name, number)
            stream.position = stream.durable = position
            stream.committed = committed
            stream.note = stream.durable_note = bytes(note)
            state.streams[number] = stream
        for key, value in raised:
            marks.move(key, _unpacked_value(value))
    except (TypeError, KeyError) as error:
        raise ValueError(f"unexpected shape: {error}") from error
    return state


def pack_marks(marks: dict[MarkKey, int]) -> bytes:
    """The payload of a MARKS record: a msgpack map from key to id."""
    if max(marks.values()) > _WORD:
        return _pack({key: _packed_value(value) for key, value in marks.items()})
    return _pack(marks)


def unpack_marks(payload: bytes) -> dict[MarkKey, int]:
    """The marks of a MARKS payload. Raises `ValueError` when it is no map."""
    marks = _unpack(payload)
    if not isinstance(marks, dict):
        raise ValueError("not a map")
    return {key: _unpacked_value(value) for key, value in marks.items()}


def _packed_value(value: int) -> int | list[int]:
    return value if value <= _WORD else [value >> _WORD_BITS, value & _WORD]


def _unpacked_value(value: object) -> int:
    if isinstance(value, int):
        return value
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("a mark is neither an integer nor a pair")
    high, low = value
    if not (isinstance(high, int) and isinstance(low, int) and 0 < high <= _WORD >= low >= 0):
        raise ValueError("a mark's pair is out of range")
    return high << _WORD_BITS | low


# Kept: a new one allocates hundreds of KiB, and marks are packed for every batch.
_packer = msgpack.Packer(use_bin_type=True)


def _pack(value: object) -> bytes:
    packed: bytes = _packer.pack(value)
    return packed


def _unpack(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(payload, raw=False, strict_map_key=True)
    except (msgpack.UnpackException, msgpack.ExtraData) as error:
        raise ValueError(f"not msgpack: {error}") from error
