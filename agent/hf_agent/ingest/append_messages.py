"""The messages of protocol `append`, version 1: msgpack arrays that begin with a tag.

Fields that a later version adds at the end of an array, and keys that it adds to a map, are
skipped. Numbers are bounded to what a signed 64-bit integer holds. No field is of an open type
in what a client sends: an open type would let it make the decoder allocate what it merely declares.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Raw, Struct

__all__ = [
    "ACK_STORE",
    "ACK_WAL",
    "MAX_BATCH_RECORDS",
    "MAX_ID",
    "VERSION",
    "Ack",
    "AgentMessage",
    "Append",
    "Batch",
    "ClientMessage",
    "Error",
    "Flush",
    "Flushed",
    "Hello",
    "HelloOptions",
    "Limits",
    "Status",
    "StatusAnswer",
    "Stored",
    "Welcome",
]

VERSION = 1
MAX_ID = (1 << 63) - 1
MAX_BATCH_RECORDS = 16_384
"""Appends in one `batch`: bounds the list of lengths, which takes more memory than it has bytes."""

ACK_WAL = "wal"
ACK_STORE = "store"

Id: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_ID)]
Length: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ID)]
Lengths: TypeAlias = Annotated[list[Length], Meta(min_length=1, max_length=MAX_BATCH_RECORDS)]


class HelloOptions(Struct, frozen=True, omit_defaults=True):
    """What a client says of itself."""

    producer: str | None = None


class Hello(Struct, frozen=True, array_like=True, tag="hello", gc=False):
    """First message of a client. `options` is a `HelloOptions`, read once `version` is known."""

    version: int
    options: Raw = Raw(b"\x80")


class Append(Struct, frozen=True, array_like=True, tag="append", gc=False):
    """One append; `data` is a view of the bytes that were decoded."""

    id: Id
    stream: str
    data: memoryview
    ack: str = ACK_WAL


class Batch(Struct, frozen=True, array_like=True, tag="batch", gc=False):
    """`len(lengths)` appends with the ids from `first_id` on, their data one behind the other."""

    first_id: Id
    stream: str
    lengths: Lengths
    data: memoryview
    ack: str = ACK_WAL


class Flush(Struct, frozen=True, array_like=True, tag="flush", gc=False):
    """Asks that the store have all of `stream` (None: of every stream) taken so far."""

    request: Id
    stream: str | None = None


class Status(Struct, frozen=True, array_like=True, tag="status", gc=False):
    """Asks for the agent's status."""

    request: Id


class Limits(Struct, frozen=True):
    """What the agent says of itself: bounds in bytes, and the producer's highest known id."""

    max_record_bytes: int
    max_frame_bytes: int
    max_batch_records: int
    node: str
    last_id: int
    agent_version: str


class Welcome(Struct, frozen=True, array_like=True, tag="hello"):
    """The agent's answer to `Hello`."""

    version: int
    limits: Limits


class Ack(Struct, frozen=True, array_like=True, tag="ack"):
    """Every append with an id up to `id` is durable; positions are those newly reached."""

    id: int
    positions: dict[str, int]


class Stored(Struct, frozen=True, array_like=True, tag="stored"):
    """Every append up to `id` that asked for the store is there."""

    id: int
    positions: dict[str, int]


class Error(Struct, frozen=True, array_like=True, tag="error"):
    """Something was refused; `id` is the append's id or the request's number."""

    code: str
    message: str
    id: int | None = None


class Flushed(Struct, frozen=True, array_like=True, tag="flushed"):
    """The answer to `Flush`."""

    request: int


class StatusAnswer(Struct, frozen=True, array_like=True, tag="status"):
    """The answer to `Status`."""

    request: int
    status: dict[str, Any]


ClientMessage: TypeAlias = Hello | Append | Batch | Flush | Status
AgentMessage: TypeAlias = Welcome | Ack | Stored | Error | Flushed | StatusAnswer
