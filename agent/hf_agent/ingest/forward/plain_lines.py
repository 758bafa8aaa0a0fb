"""Lines of JSON many at a time in Python, for entries that are all plain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from msgspec.json import Encoder

from hf_agent.ingest.forward.entries import Slice, array_of
from hf_agent.ingest.forward.event_time import TimeTexts
from hf_agent.ingest.forward.plain import PlainEntry, decode_plain
from hf_agent.ingest.forward.values import text_or_bytes

__all__ = ["PlainLines"]

_encoder: Final = Encoder()


class PlainLines:
    """What `NativeLines` is, where that is not there."""

    def __init__(self, time_key: str, tag_key: str) -> None:
        """Either key may be empty: then what it stands for is not written."""
        self._time_key = time_key
        self._tag_key = tag_key
        self._own_keys = [key for key in (time_key, tag_key) if key]
        self._times = TimeTexts()

    def of(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """The lines of several messages' entries; None when they are not all plain.

        `counts`: how many entries each message has; None, too, when that is wrong.
        """
        tag_text = text_or_bytes(tag) if self._tag_key else ""
        if not isinstance(tag_text, str):
            return None
        # An array for each message: that it has as many entries as it says shows in decoding, too.
        heads = {count: array_of(Slice(b"", count)) for count in set(counts)}
        arrays = [heads[count] for count in counts]
        data = b"".join(chain.from_iterable(zip(arrays, messages, strict=True)))
        decoded = decode_plain(array_of(Slice(data, len(messages))))
        if decoded is None:
            return None
        return self._lines(list(chain.from_iterable(decoded)), tag_text)

    def _lines(self, decoded: list[PlainEntry], tag: str) -> bytes | None:
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


def _encoded(lines: Sequence[object], *, escaped: int) -> bytes | None:
    """The lines as text; None when other keys than those `escaped` begin with a `$`."""
    text = _encoder.encode_lines(lines)
    # Few chunks have a `$` at all, and to look for one is much faster.
    if b"$" in text and text.count(b'"$') != escaped:
        return None
    return text
