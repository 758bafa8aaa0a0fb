"""Entries as the msgpack that they came in, byte for byte, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import MsgspecError, Raw, Struct
from msgspec.msgpack import Decoder, encode

from hf_agent.ingest.forward.entries import Slice, array_of, check_count, one_by_one
from hf_agent.ingest.forward.one_entry import parse_entry
from hf_agent.ingest.forward.plain import Time, have_times

__all__ = ["PackedEntries"]


class _Entry(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    time: Time
    record: Raw


_entries: Final = Decoder(list[_Entry])


class PackedEntries:
    """Formats entries of any tag."""

    def __init__(self, *, with_tag: bool) -> None:
        """With the tag, entries become `[tag, time, record]`."""
        self._with_tag = with_tag

    def format(self, entries: Slice, tag: bytes, metadata: bytes) -> bytes:
        """The entries. Raises `ProtocolError` (`malformed`)."""
        is_whole = not (self._with_tag or metadata)
        if is_whole and _are_plain(entries):
            return bytes(entries.data)
        check_count(entries)
        parsed = [parse_entry(raw) for raw in one_by_one(entries)]
        if is_whole:
            return bytes(entries.data)
        packed_tag = _packed_text(tag) if self._with_tag else b""
        return b"".join([entry.rewritten(packed_tag, metadata) for entry in parsed])

    def format_many(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """Not done: there is little to be saved."""
        return None


def _are_plain(entries: Slice) -> bool:
    try:
        decoded = _entries.decode(array_of(entries))
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return have_times(decoded) and all(_is_map(entry.record) for entry in decoded)


def _is_map(value: Raw) -> bool:
    first = memoryview(value)[0]
    return 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)


def _packed_text(data: bytes) -> bytes:
    try:
        return encode(data.decode())
    except UnicodeDecodeError:
        return encode(data)
