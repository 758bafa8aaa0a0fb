"""Entries as lines of JSON: `{"time": …, the record's own keys}`.

Plain entries (see `plain`) are formatted many at a time. A slice that is not all plain is halved
until what is not is found; those entries go through Python, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

from msgspec.json import Encoder

from hf_agent.ingest.forward.entries import Slice, array_of, check_count, one_by_one, split
from hf_agent.ingest.forward.event_time import TimeTexts
from hf_agent.ingest.forward.json_line import JsonLine
from hf_agent.ingest.forward.one_entry import parse_entry
from hf_agent.ingest.forward.plain import (
    ENTRIES,
    MESSAGES,
    PlainEntry,
    RecordClasses,
    decode_plain,
)
from hf_agent.ingest.forward.values import text_or_bytes

__all__ = ["JsonLines"]

_ONE_BY_ONE: Final = 16
"""So few entries are not worth being halved any more."""
_WORTH_A_CLASS: Final = 64

T = TypeVar("T")

_encoder: Final = Encoder()


class JsonLines:
    """Formats entries of any tag. One for each socket, shared by its connections."""

    def __init__(self, time_key: str, tag_key: str) -> None:
        """Either key may be empty: then what it stands for is not written."""
        self._time_key = time_key
        self._tag_key = tag_key
        self._own_keys = [key for key in (time_key, tag_key) if key]
        self._line = JsonLine(time_key, tag_key)
        self._times = TimeTexts()
        self._classes = RecordClasses(self._own_keys)

    def format(self, entries: Slice, tag: bytes, metadata: bytes) -> bytes:
        """One line for each entry. Raises `ProtocolError` (`malformed`)."""
        text = self._plain(entries, tag, metadata)
        if text is not None:
            return text
        check_count(entries)
        return b"".join(self._pieces(entries, tag, metadata))

    def format_many(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """The lines of several messages' entries, if those are all plain."""
        # An array for each message: that it has as many entries as it says shows in decoding, too.
        heads = {count: array_of(Slice(b"", count)) for count in set(counts)}
        arrays = [heads[count] for count in counts]
        data = b"".join(chain.from_iterable(zip(arrays, messages, strict=True)))
        array = array_of(Slice(data, len(messages)))
        tag_text = text_or_bytes(tag) if self._tag_key else ""
        if not isinstance(tag_text, str):
            return None
        if sum(counts) >= _WORTH_A_CLASS:
            decoders = self._classes.decoders_like(messages[0])
            objects = None if decoders is None else decode_plain(array, decoders.messages)
            text = None if objects is None else self._objects(_flat(objects), tag_text)
            if text is not None:
                return text
        decoded = decode_plain(array, MESSAGES)
        return None if decoded is None else self._maps(_flat(decoded), tag_text)

    def _pieces(self, entries: Slice, tag: bytes, metadata: bytes) -> Iterator[bytes]:
        if entries.number <= _ONE_BY_ONE or metadata:
            for raw in one_by_one(entries):
                yield self._line.of(parse_entry(raw), tag, metadata)
            return
        for half in split(entries, entries.number // 2):
            text = self._plain(half, tag, metadata)
            if text is not None:
                yield text
            else:
                yield from self._pieces(half, tag, metadata)

    # -- many at a time --------------------------------------------------------------------

    def _plain(self, entries: Slice, tag: bytes, metadata: bytes) -> bytes | None:
        """The lines of entries that are all plain; None when they are not."""
        if metadata:
            return None
        tag_text = text_or_bytes(tag) if self._tag_key else ""
        if not isinstance(tag_text, str):
            return None
        array = array_of(entries)
        if entries.number >= _WORTH_A_CLASS:
            decoders = self._classes.decoders_like(entries.data)
            objects = None if decoders is None else decode_plain(array, decoders.entries)
            text = None if objects is None else self._objects(objects, tag_text)
            if text is not None:
                return text
        decoded = decode_plain(array, ENTRIES)
        return None if decoded is None else self._maps(decoded, tag_text)

    def _objects(self, decoded: list[Any], tag: str) -> bytes | None:
        """The lines of records that are all of one class, which has room for our own keys."""
        times = self._times.of([entry.time for entry in decoded])
        if times is None:
            return None
        records: list[Any] = [entry.record for entry in decoded]
        own: list[Sequence[str]] = []
        if self._time_key:
            own.append(times)
        if self._tag_key:
            own.append([tag] * len(records))
        if own:
            for record, value in zip(records, own[0], strict=True):
                record.own0 = value
        if len(own) > 1:
            for record, value in zip(records, own[1], strict=True):
                record.own1 = value
        return _encoded(records, escaped=0)

    def _maps(self, decoded: list[PlainEntry], tag: str) -> bytes | None:
        """The lines of records of any keys."""
        times = self._times.of([entry.time for entry in decoded])
        if times is None:
            return None
        records = [entry.record for entry in decoded]
        lines = self._with_own_keys(records, times, tag)
        # Fewer keys than there were: some record has one of that name itself.
        hidden = sum(map(len, records)) + len(self._own_keys) * len(records) - sum(map(len, lines))
        if hidden:
            lines = self._with_own_keys([self._escaped(record) for record in records], times, tag)
        return _encoded(lines, escaped=hidden)

    def _with_own_keys(
        self, records: list[dict[str, Any]], times: Sequence[str], tag: str
    ) -> list[dict[str, Any]]:
        time_key, tag_key = self._time_key, self._tag_key
        if not time_key:
            return [{tag_key: tag, **record} for record in records] if tag_key else records
        pairs = zip(times, records, strict=True)
        if tag_key:
            return [{time_key: time, tag_key: tag, **record} for time, record in pairs]
        return [{time_key: time, **record} for time, record in pairs]

    def _escaped(self, record: dict[str, Any]) -> dict[str, Any]:
        own = self._own_keys
        return {f"${key}" if key in own else key: value for key, value in record.items()}


def _flat(messages: list[list[T]]) -> list[T]:
    return list(chain.from_iterable(messages))


def _encoded(lines: Sequence[object], *, escaped: int) -> bytes | None:
    """The lines as text; None when other keys than those `escaped` begin with a `$`."""
    text = _encoder.encode_lines(lines)
    # Few chunks have a `$` at all, and to look for one is much faster.
    if b"$" in text and text.count(b'"$') != escaped:
        return None
    return text
