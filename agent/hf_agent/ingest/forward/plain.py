"""Entries whose every value JSON can say as it is: decoded, and told from others, by msgspec alone.

The types below let nothing else pass: no bin, no ext, no NaN, no key that is no text. What they
cannot see, above all a key that stands twice in a map, shows when the entries are encoded again:
then the bytes differ.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import msgpack
from msgspec import Meta, MsgspecError, Raw, Struct, defstruct
from msgspec.msgpack import Decoder, Encoder, Ext

from hf_agent.ingest.forward.event_time import EVENT_TIME, EVENT_TIME_BYTES

__all__ = [
    "ENTRIES",
    "MESSAGES",
    "PlainEntry",
    "RecordClasses",
    "Time",
    "decode_plain",
    "have_times",
]

T = TypeVar("T")

_LEVELS: Final = 6
"""Of maps and arrays in a record; what is nested deeper takes the long way."""
_LEVELS_IN_A_CLASS: Final = 3
"""Fewer: each one doubles the time that it takes to make a class."""
_MAX_KEYS: Final = 64
_CLASSES_KEPT: Final = 32
_FIRST_BYTES: Final = 4096

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


ENTRIES: Final = Decoder(list[PlainEntry])
MESSAGES: Final = Decoder(list[list[PlainEntry]])
"""Of several messages, each of them an array of entries."""
_encoder: Final = Encoder()
_encoded: Final = bytearray()
"""Kept, up to `_MAX_ENCODED`: memory that was just used is faster than new memory."""
_MAX_ENCODED: Final = 1 << 20


def decode_plain(array: bytes, decoder: Decoder[list[T]]) -> list[T] | None:
    """What is in a msgpack array, if it is plain."""
    try:
        decoded = decoder.decode(array)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    _encoder.encode_into(decoded, _encoded)
    is_same = _encoded == array
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


class ClassDecoders(NamedTuple):
    """Of entries whose records have certain keys."""

    entries: Decoder[list[Any]]
    messages: Decoder[list[list[Any]]]
    """Of several messages, each of them an array of entries."""


class RecordClasses:
    """Classes for records that have certain keys, with room for more in front of them.

    Most chunks hold records of one kind. Objects of a class made for it are decoded and encoded
    faster than maps, and can be given a time without being copied. A class is made when chunks
    begin with the same keys twice; some are kept.
    """

    def __init__(self, own_keys: Sequence[str]) -> None:
        """`own_keys` come first in what is encoded, as far as their fields `own0`, … are set."""
        self._own = tuple(own_keys)
        self._decoders: OrderedDict[tuple[str, ...], ClassDecoders | None] = OrderedDict()

    def decoders_like(self, entries: memoryview | bytes) -> ClassDecoders | None:
        """For records that all have the keys of the first one in `entries`, in that order.

        None: there is none for those keys.
        """
        keys = _first_keys(entries)
        if keys is None:
            return None
        decoders = self._decoders
        if keys not in decoders:
            decoders[keys] = None
            if len(decoders) > _CLASSES_KEPT:
                decoders.popitem(last=False)
            return None
        decoders.move_to_end(keys)
        made = decoders[keys]
        if made is None:
            made = decoders[keys] = self._make(keys)
        return made

    def _make(self, keys: tuple[str, ...]) -> ClassDecoders | None:
        if len(keys) > _MAX_KEYS or len({*keys, *self._own}) < len(keys) + len(self._own):
            return None
        if any(key.startswith("$") for key in keys):
            return None
        value = _value_type(_LEVELS_IN_A_CLASS)
        own = [f"own{index}" for index in range(len(self._own))]
        names = [f"key{index}" for index in range(len(keys))]
        try:
            record = defstruct(
                "Record",
                [*((name, str, "") for name in own), *((name, value) for name in names)],
                rename=dict(zip([*own, *names], [*self._own, *keys], strict=True)),
                # What has its default is left out: the own fields, until they are set.
                omit_defaults=True,
                forbid_unknown_fields=True,
                kw_only=True,
                gc=False,
            )
        except ValueError:
            return None  # a key that would have to be escaped
        entry = defstruct(
            "Entry",
            [("time", Raw), ("record", record)],
            array_like=True,
            forbid_unknown_fields=True,
            gc=False,
        )
        return ClassDecoders(
            Decoder(list[entry]),  # type: ignore[valid-type]
            Decoder(list[list[entry]]),  # type: ignore[valid-type]
        )


def _first_keys(entries: memoryview | bytes) -> tuple[str, ...] | None:
    """The keys of the first record, if it is short and they are all text."""
    unpacker = msgpack.Unpacker(read_size=_FIRST_BYTES, max_buffer_size=2 * _FIRST_BYTES)
    unpacker.feed(entries[:_FIRST_BYTES])
    try:
        _, record = unpacker.unpack()
    except (msgpack.OutOfData, TypeError, ValueError):
        return None
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        return None
    return tuple(record)
