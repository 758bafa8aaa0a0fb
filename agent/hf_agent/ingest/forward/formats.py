"""What entries become in their stream, as configured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hf_agent.ingest.forward.entries import Slice
from hf_agent.ingest.forward.json_line import JsonLine
from hf_agent.ingest.forward.json_lines import JsonLines
from hf_agent.ingest.forward.packed_entries import PackedEntries
from hf_agent.ingest.forward.raw_lines import RawLines

__all__ = ["Format", "FormatConfig", "fallback_format", "own_format"]

_TAG_KEY = "tag"
"""Where the tag stands in the fallback stream if nothing else is configured."""


class Format(Protocol):
    """Turns slices of entries into bytes of a stream."""

    def format(self, entries: Slice, tag: bytes, metadata: bytes) -> bytes:
        """The bytes of these entries, in their order.

        `metadata` is that of the whole message, a msgpack map, or empty. Raises `ProtocolError`
        (`malformed`) when anything of them is no entry, or when there are not as many as said.
        """
        ...

    def format_many(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """The bytes of the entries of several messages, one behind the other.

        `counts`: how many entries each message has; None, too, when that is wrong.

        None where that does not work for all of them: then each is to be formatted by itself.
        """
        ...


class FormatConfig(Protocol):
    """The part of `[listen.forward]` that is about formats."""

    @property
    def format(self) -> str: ...
    @property
    def time_key(self) -> str: ...
    @property
    def tag_key(self) -> str: ...
    @property
    def message_key(self) -> str: ...


def own_format(config: FormatConfig) -> Format:
    """Of entries in the stream of their tag."""
    if config.format == "msgpack":
        return PackedEntries(with_tag=False)
    if config.message_key:
        return RawLines(config.message_key, JsonLine(config.time_key, config.tag_key))
    return JsonLines(config.time_key, config.tag_key)


def fallback_format(config: FormatConfig) -> Format:
    """Of entries in the fallback stream: whole, and with their tag, which is told nowhere else."""
    if config.format == "msgpack":
        return PackedEntries(with_tag=True)
    tag_key = config.tag_key or _TAG_KEY
    if tag_key == config.time_key:
        tag_key = f"_{tag_key}"
    return JsonLines(config.time_key, tag_key)
