"""One entry, taken apart in Python: for those that are out of the ordinary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

from hf_agent.ingest.forward.event_time import EVENT_TIME, time_text, unpack_event_time
from hf_agent.ingest.forward.scan import malformed
from hf_agent.ingest.forward.values import Ext, Pairs, json_value, unpack

__all__ = ["Entry", "parse_entry", "time_value"]

_TIME_AND_METADATA = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """`[time, record]` or, from newer peers, `[[time, metadata], record]`."""

    time: Any
    metadata: Pairs
    record: Pairs
    raw: bytes
    """The entry as it came."""

    def rewritten(self, tag: bytes, metadata: bytes) -> bytes:
        """The entry with what stood outside of it: `[tag, time, record]`, all of it msgpack.

        Without a tag, `[time, record]`. Metadata goes where newer peers put it themselves.
        """
        unpacker = msgpack.Unpacker(max_buffer_size=len(self.raw) + 1)
        unpacker.feed(self.raw)
        unpacker.read_array_header()
        begin = unpacker.tell()
        unpacker.skip()
        end = unpacker.tell()
        time, record = self.raw[begin:end], self.raw[end:]
        if metadata and not self.metadata:
            time = b"\x92" + time + metadata
        return (b"\x93" + tag if tag else b"\x92") + time + record


def parse_entry(raw: bytes) -> Entry:
    """Raises `ProtocolError` (`malformed`) for what is no entry."""
    try:
        value = unpack(raw)
    except ValueError as error:
        raise malformed(f"entry cannot be decoded: {error}") from error
    if type(value) is not list or len(value) != 2:
        raise malformed("entry is not [time, record]")
    time, record = value
    metadata = Pairs()
    if type(time) is list and 1 <= len(time) <= _TIME_AND_METADATA:
        if len(time) == _TIME_AND_METADATA:
            metadata = time[1]
        time = time[0]
    if not isinstance(metadata, Pairs):
        raise malformed("metadata of an entry is no map")
    if not isinstance(record, Pairs):
        raise malformed("record of an entry is no map")
    if not _is_time(time):
        raise malformed("time of an entry is neither a number nor an EventTime")
    return Entry(time, metadata, record, raw)


def time_value(time: Any) -> Any:
    """What stands for a time in JSON: RFC 3339, or the value that it cannot say."""
    text = None
    if isinstance(time, msgpack.Timestamp):
        text = time_text(time.seconds, time.nanoseconds)
    elif isinstance(time, Ext):
        text = time_text(*(unpack_event_time(time.data) or ()))
    elif time is not None:
        text = time_text(time)
    return json_value(time) if text is None else text


def _is_time(time: Any) -> bool:
    if isinstance(time, Ext):
        return time.code == EVENT_TIME and unpack_event_time(time.data) is not None
    if isinstance(time, bool):
        return False
    return time is None or isinstance(time, int | float | msgpack.Timestamp)
