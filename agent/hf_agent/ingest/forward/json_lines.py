"""Entries as lines of JSON: `{"time": …, the record's own keys}`.

Plain entries are formatted many at a time: those whose every value JSON can say as it is. A slice
that is not all plain is halved until what is not is found; those entries go through Python, one by
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hf_agent.ingest.forward.entries import Slice, check_count, one_by_one, split
from hf_agent.ingest.forward.json_line import JsonLine
from hf_agent.ingest.forward.native_lines import NativeLines
from hf_agent.ingest.forward.one_entry import parse_entry
from hf_agent.ingest.forward.plain_lines import PlainLines
from hf_agent.native import native

__all__ = ["JsonLines"]

_ONE_BY_ONE: Final = 16
"""So few entries are not worth being halved any more."""


class JsonLines:
    """Formats entries of any tag. One for each socket, shared by its connections."""

    def __init__(self, time_key: str, tag_key: str) -> None:
        """Either key may be empty: then what it stands for is not written."""
        self._line = JsonLine(time_key, tag_key)
        plain = PlainLines if native is None else NativeLines
        self._plain: PlainLines | NativeLines = plain(time_key, tag_key)

    def format(self, entries: Slice, tag: bytes, metadata: bytes) -> bytes:
        """One line for each entry. Raises `ProtocolError` (`malformed`)."""
        if not metadata:
            text = self._plain.of([entries.data], [entries.number], tag)
            if text is not None:
                return text
        check_count(entries)
        return b"".join(self._pieces(entries, tag, metadata))

    def format_many(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """The lines of several messages' entries, if those are all plain."""
        return self._plain.of(messages, counts, tag)

    def _pieces(self, entries: Slice, tag: bytes, metadata: bytes) -> Iterator[bytes]:
        if entries.number <= _ONE_BY_ONE or metadata:
            for raw in one_by_one(entries):
                yield self._line.of(parse_entry(raw), tag, metadata)
            return
        for half in split(entries, entries.number // 2):
            text = self._plain.of([half.data], [half.number], tag)
            if text is not None:
                yield text
            else:
                yield from self._pieces(half, tag, metadata)
