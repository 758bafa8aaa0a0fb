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


def pack_snapshot(state: LogState) -> bytes:
    """The durable part of `state`, as it goes into a SNAPSHOT record."""
    streams = [
        [stream.number, stream.name, stream.durable, stream.committed, stream.durable_note]
        for stream in state.streams.values()
    ]
    return _pack([streams, state.marks.items()])


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
            marks.move(key, value)
    except (TypeError, KeyError) as error:
        raise ValueError(f"unexpected shape: {error}") from error
    return state


def pack_marks(marks: dict[MarkKey, int]) -> bytes:
    """The payload of a MARKS record: a msgpack map from key to id."""
    return _pack(marks)


def unpack_marks(payload: bytes) -> dict[MarkKey, int]:
    """The marks of a MARKS payload. Raises `ValueError` when it is no map."""
    marks = _unpack(payload)
    if not isinstance(marks, dict):
        raise ValueError("not a map")
    return marks


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
