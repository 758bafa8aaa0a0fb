"""One entry as one line of JSON, whatever it holds."""

from __future__ import annotations

from typing import Any, Final

from msgspec.json import Encoder

from hf_agent.ingest.forward.one_entry import Entry, time_value
from hf_agent.ingest.forward.values import TooDeep, base64, json_value, text_or_bytes, unpack

__all__ = ["JsonLine"]

_encoder: Final = Encoder()


class JsonLine:
    """Time and tag under keys of their own, then the record's keys."""

    def __init__(self, time_key: str, tag_key: str) -> None:
        """Either key may be empty: then what it stands for is not written."""
        self._time_key = time_key
        self._tag_key = tag_key
        self._own = {key for key in (time_key, tag_key) if key}

    def of(self, entry: Entry, tag: bytes, metadata: bytes) -> bytes:
        """The line, with its newline. `metadata` (a map) counts where the entry has none."""
        line: dict[str, Any] = {}
        if self._time_key:
            line[self._time_key] = time_value(entry.time)
        if self._tag_key:
            line[self._tag_key] = text_or_bytes(tag)
        try:
            found = entry.metadata or (unpack(metadata) if metadata else None)
            if found:
                line["$metadata"] = json_value(found)
            for key, value in json_value(entry.record).items():
                # A single `$` is in front of no key of the record's own: those are doubled.
                line[f"${key}" if key in self._own else key] = value
        except TooDeep:
            line = {key: value for key, value in line.items() if key in self._own}
            line["$msgpack"] = base64(entry.raw)
        return _encoder.encode(line) + b"\n"
