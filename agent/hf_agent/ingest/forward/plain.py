"""Entries whose every value JSON can say as it is: decoded, and told from others, by msgspec alone.

The types below let nothing else pass: no bin, no ext, no NaN, no key that is no text. What they
cannot see, above all a key that stands twice in a map, shows when the entries are encoded again:
then the bytes differ.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, TypeAlias

from msgspec import Meta, MsgspecError, Raw, Struct
from msgspec.msgpack import Decoder, Encoder, Ext

from hf_agent.ingest.forward.event_time import EVENT_TIME, EVENT_TIME_BYTES

__all__ = ["PlainEntry", "Time", "decode_plain", "have_times"]

_LEVELS: Final = 6
"""Of maps and arrays in a record; what is nested deeper takes the long way."""

Scalar: TypeAlias = (
    str | int | Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)] | bool | None
)


def _value_type(levels: int) -> Any:
    value: Any = Scalar
    for _ in range(levels):
        value = Scalar | list[value] | dict[str, value]
    return value


Time: TypeAlias = Ext | int | float


class Timed(Protocol):
    """An entry, whatever its record is."""

    @property
    def time(self) -> Time: ...


class PlainEntry(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """One event."""

    time: Raw
    record: dict[str, _value_type(_LEVELS)]  # type: ignore[valid-type]


_messages: Final = Decoder(list[list[PlainEntry]])
_encoder: Final = Encoder()
_encoded: Final = bytearray()
"""Kept, up to `_MAX_ENCODED`: memory that was just used is faster than new memory."""
_MAX_ENCODED: Final = 1 << 20


def decode_plain(messages: bytes) -> list[list[PlainEntry]] | None:
    """The entries in an array of messages, each of them an array of entries, if all are plain."""
    try:
        decoded = _messages.decode(messages)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    _encoder.encode_into(decoded, _encoded)
    is_same = _encoded == messages
    if len(_encoded) > _MAX_ENCODED:
        _encoded.clear()
    return decoded if is_same else None


def have_times(entries: Sequence[Timed]) -> bool:
    """Whether all times are numbers or `EventTime`s."""
    return all(
        isinstance(entry.time, int | float)
        or (entry.time.code == EVENT_TIME and len(bytes(entry.time.data)) == EVENT_TIME_BYTES)
        for entry in entries
    )
