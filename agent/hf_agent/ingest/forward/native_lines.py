"""Lines of JSON by the loop in C: from msgpack without an object for each value in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.json import Encoder

from hf_agent.ingest.forward.values import text_or_bytes
from hf_agent.native import native

__all__ = ["NativeLines"]

_encoder: Final = Encoder()


class NativeLines:
    """Lines of entries that are all plain; only where `native` is there."""

    def __init__(self, time_key: str, tag_key: str) -> None:
        """Either key may be empty: then what it stands for is not written."""
        assert native is not None
        self._write = native.json_lines
        self._has_time = bool(time_key)
        self._has_tag = bool(tag_key)
        self._head = b"{"
        self._tail = b""
        if time_key:
            self._head += _encoder.encode(time_key) + b':"'
            self._tail += b'"'
        if tag_key:
            self._tail += (b"," if time_key else b"") + _encoder.encode(tag_key) + b":"
        self._own_keys = tuple(key.encode() for key in (time_key, tag_key) if key)

    def of(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """The lines of several messages' entries; None when they are not all plain.

        `counts`: how many entries each message has; None, too, when that is wrong.
        """
        tail = self._tail
        if self._has_tag:
            text = text_or_bytes(tag)
            if not isinstance(text, str):
                return None
            tail += _encoder.encode(text)
        return self._write(
            list(messages), list(counts), self._head, self._has_time, tail, self._own_keys
        )
