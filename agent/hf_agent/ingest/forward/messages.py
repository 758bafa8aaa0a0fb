"""What a peer of protocol `forward` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from msgspec import MsgspecError, Raw, Struct
from msgspec.msgpack import Decoder
from msgspec.structs import replace

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.scan import malformed, text_bounds
from hf_agent.ingest.forward.values import Pairs, TooDeep, json_value, unpack

__all__ = [
    "Events",
    "ForwardMessage",
    "Heartbeat",
    "Options",
    "Ping",
    "chunk_text",
    "decode_options",
    "decode_ping",
    "one_line",
]

MAX_CHUNK_ID_BYTES: Final = 1024
"""Shippers use 16 to 64. It is held until the events are durable."""


class Options(Struct, frozen=True):
    """The options of a message that mean something here; others are skipped."""

    size: int | None = None
    """How many entries there are; it must be right."""
    chunk: Raw = Raw(b"")
    """Asks for an acknowledgement, and is what a resend is known by: msgpack str or bin, or empty.
    """
    compressed: str | None = None
    fluent_signal: int | None = None
    metadata: Raw = Raw(b"")
    """Of every event in the message: a msgpack map, or nothing."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A message without meaning: nil, or an empty array."""


@dataclass(frozen=True, slots=True)
class Events:
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

_options: Final[Decoder[Options | None]] = Decoder(Options | None)
_ping: Final = Decoder(Ping)
_NO_OPTIONS: Final = Options()
_NIL: Final = b"\xc0"


def decode_options(data: memoryview) -> Options:
    """The last element of a message: a map, or nil. Raises `ProtocolError` (`malformed`)."""
    try:
        options = _options.decode(data)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"options cannot be decoded: {one_line(error)}") from error
    if options is None:
        return _NO_OPTIONS
    chunk, metadata = bytes(options.chunk), bytes(options.metadata)
    if chunk:
        _check_chunk(chunk)
    if chunk == _NIL:
        options = replace(options, chunk=Raw(b""))
    if metadata:
        options = replace(options, metadata=Raw(_checked_metadata(metadata)))
    return options


def _check_chunk(chunk: bytes) -> None:
    if len(chunk) > MAX_CHUNK_ID_BYTES:
        raise malformed(f"chunk id is too long bytes={len(chunk)} limit={MAX_CHUNK_ID_BYTES}")
    if chunk != _NIL:
        try:
            text_bounds(chunk, 0, len(chunk))
        except ProtocolError as error:
            raise malformed("chunk id is neither str nor bin") from error


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
    chunk = bytes(options.chunk)
    if not chunk:
        return ""
    begin, end = text_bounds(chunk, 0, len(chunk)) or (0, 0)
    return chunk[begin : min(end, begin + 100)].decode(errors="backslashreplace")


def one_line(error: Exception) -> str:
    """An exception's text, fit for a log line."""
    return " ".join(str(error).split())[:200]
