"""Entries as what stands under one key of their records, and nothing else of them.

An entry that has no text or bytes there is written whole, as a line of JSON: it must not vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import MsgspecError, defstruct
from msgspec.msgpack import Decoder

from hf_agent.ingest.forward.entries import Slice, array_of, check_count, one_by_one
from hf_agent.ingest.forward.json_line import JsonLine
from hf_agent.ingest.forward.one_entry import parse_entry
from hf_agent.ingest.forward.plain import Time, have_times

__all__ = ["RawLines"]

_NEWLINE: Final = b"\n"


class RawLines:
    """Formats entries of any tag. One for each socket, shared by its connections."""

    def __init__(self, message_key: str, whole: JsonLine) -> None:
        """`whole` formats entries that have no message."""
        self._key = message_key.encode()
        self._whole = whole
        self._decoder = _decoder(message_key)

    def format(self, entries: Slice, tag: bytes, metadata: bytes) -> bytes:
        """The messages, each with a newline at its end. Raises `ProtocolError` (`malformed`)."""
        texts = self._texts(entries)
        if texts is not None:
            lines = [text if text[-1:] == "\n" else f"{text}\n" for text in texts]
            return "".join(lines).encode()
        check_count(entries)
        return b"".join([self._line(raw, tag, metadata) for raw in one_by_one(entries)])

    def _texts(self, entries: Slice) -> list[str] | None:
        """The messages, if all of them are texts."""
        try:
            decoded = self._decoder.decode(array_of(entries))
        except (MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return [entry.record.message for entry in decoded] if have_times(decoded) else None

    def format_many(
        self, messages: Sequence[memoryview | bytes], counts: Sequence[int], tag: bytes
    ) -> bytes | None:
        """Not done: there is little to be saved."""
        return None

    def _line(self, raw: bytes, tag: bytes, metadata: bytes) -> bytes:
        entry = parse_entry(raw)
        message = None
        for key, value in entry.record:
            if key == self._key:
                message = value
        if not isinstance(message, bytes):
            return self._whole.of(entry, tag, metadata)
        return message if message.endswith(_NEWLINE) else message + _NEWLINE


def _decoder(message_key: str) -> Decoder[list[Any]]:
    record = defstruct("Record", [("message", str)], rename={"message": message_key}, gc=False)
    entry = defstruct(
        "Entry",
        [("time", Time), ("record", record)],
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return Decoder(list[entry])  # type: ignore[valid-type]
