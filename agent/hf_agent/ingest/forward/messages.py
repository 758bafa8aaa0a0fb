"""What a peer of protocol `forward` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import MsgspecError, Raw, Struct
from msgspec.msgpack import Decoder

from hf_agent.ingest.forward.scan import is_text, malformed, text_bounds
from hf_agent.ingest.forward.values import Pairs, TooDeep, json_value, unpack

__all__ = [
    "Events",
    "ForwardMessage",
    "Heartbeat",
    "Options",
    "Ping",
    "are_chunk_ids",
    "chunk_text",
    "decode_options",
    "decode_ping",
    "one_line",
]

MAX_CHUNK_ID_BYTES: Final = 1024
"""Shippers use 16 to 64. It is held until the events are durable."""


class Options(Struct, frozen=True, gc=False):
    """The options of a message that mean something here; others are skipped."""

    size: int | None = None
    """How many entries there are; it must be right."""
    chunk: bytes = b""
    """Asks for an acknowledgement, and is what a resend is known by: a msgpack str or bin, or
    empty."""
    compressed: str = ""
    fluent_signal: int = 0
    """What kind of events these are; 0 is logs."""
    metadata: bytes = b""
    """Of every event in the message: a msgpack map, or empty."""


class Heartbeat(Struct, frozen=True):
    """A message without meaning: nil, or an empty array."""


class Events(Struct, frozen=True, gc=False):
    """Events of one tag, in whatever mode they were sent."""

    tag: bytes
    entries: memoryview | bytes
    """One behind the other, each `[time, record]`; compressed if the options say so."""
    count: int | None
    """How many entries, where the mode tells."""
    options: Options


class Ping(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The client's part of the handshake."""

    kind: str
    hostname: str
    salt: Raw
    shared_key_digest: str
    username: str
    password_digest: str


ForwardMessage: TypeAlias = Heartbeat | Events | Ping


class _WireOptions(Struct, frozen=True, gc=False):
    size: int | None = None
    chunk: Raw = Raw(b"")
    compressed: str | None = None
    fluent_signal: int | None = None
    metadata: Raw = Raw(b"")


_options: Final[Decoder[_WireOptions | None]] = Decoder(_WireOptions | None)
_ping: Final = Decoder(Ping)
_NO_OPTIONS: Final = Options()
_NIL: Final = b"\xc0"


def decode_options(data: memoryview) -> Options:
    """The last element of a message: a map, or nil. Raises `ProtocolError` (`malformed`)."""
    try:
        wire = _options.decode(data)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"options cannot be decoded: {one_line(error)}") from error
    if wire is None:
        return _NO_OPTIONS
    chunk, metadata = bytes(wire.chunk), bytes(wire.metadata)
    if chunk:
        chunk = _checked_chunk(chunk)
    if metadata:
        metadata = _checked_metadata(metadata)
    return Options(wire.size, chunk, wire.compressed or "", wire.fluent_signal or 0, metadata)


def are_chunk_ids(chunks: Sequence[bytes]) -> bool:
    """Whether msgpack values, of which there is one at least, are ids that chunks may have."""
    first_bytes = {chunk[0] for chunk in chunks}
    return all(map(is_text, first_bytes)) and max(map(len, chunks)) <= MAX_CHUNK_ID_BYTES


def _checked_chunk(chunk: bytes) -> bytes:
    if len(chunk) > MAX_CHUNK_ID_BYTES:
        raise malformed(f"chunk id is too long bytes={len(chunk)} limit={MAX_CHUNK_ID_BYTES}")
    if chunk == _NIL:
        return b""
    if is_text(chunk[0]):
        return chunk
    raise malformed("chunk id is neither str nor bin")


def _checked_metadata(metadata: bytes) -> bytes:
    try:
        value = unpack(metadata)
        json_value(value)
    except (ValueError, TooDeep) as error:
        raise malformed("option metadata cannot be decoded, or is nested too deep") from error
    if value is not None and not isinstance(value, Pairs):
        raise malformed("option metadata is no map")
    return metadata if value else b""


def decode_ping(data: memoryview) -> Ping:
    """A `PING` message. Raises `ProtocolError` (`malformed`)."""
    try:
        return _ping.decode(data)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"PING cannot be decoded: {one_line(error)}") from error


def chunk_text(options: Options) -> str:
    """The chunk's id for people; empty when there is none."""
    chunk = options.chunk
    begin, end = text_bounds(chunk, 0, len(chunk)) or (0, 0)
    return chunk[begin : min(end, begin + 100)].decode(errors="backslashreplace")


def one_line(error: Exception) -> str:
    """An exception's text, fit for a log line."""
    return " ".join(str(error).split())[:200]
