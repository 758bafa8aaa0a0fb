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
    "FEATURES",
    "FEATURE_EPOCH",
    "FEATURE_EXPECT",
    "FEATURE_MULTI",
    "MAX_BATCH_RECORDS",
    "MAX_ID",
    "MAX_MULTI_STREAMS",
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
    "Multi",
    "Part",
    "Resume",
    "Status",
    "StatusAnswer",
    "Stored",
    "Welcome",
]

VERSION = 1
MAX_ID = (1 << 63) - 1
MAX_BATCH_RECORDS = 16_384
"""Appends in one `batch`: bounds the list of lengths, which takes more memory than it has bytes."""

MAX_MULTI_STREAMS = 256
"""Streams of one `multi`: with the longest names they fit into what a frame has beside its data."""

FEATURE_EPOCH = "epoch"
FEATURE_EXPECT = "expect_position"
FEATURE_MULTI = "multi"
FEATURES = (FEATURE_EPOCH, FEATURE_EXPECT, FEATURE_MULTI)
"""What an agent says that it understands beyond the first release of version 1."""

ACK_WAL = "wal"
ACK_STORE = "store"

Id: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_ID)]
Length: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ID)]
Epoch: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ID)]
Position: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ID)]
Lengths: TypeAlias = Annotated[list[Length], Meta(min_length=1, max_length=MAX_BATCH_RECORDS)]


class HelloOptions(Struct, frozen=True, omit_defaults=True):
    """What a client says of itself."""

    producer: str | None = None
    epoch: Epoch = 0


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
    expect_position: Position | None = None


class Batch(Struct, frozen=True, array_like=True, tag="batch", gc=False):
    """`len(lengths)` appends with the ids from `first_id` on, their data one behind the other."""

    first_id: Id
    stream: str
    lengths: Lengths
    data: memoryview
    ack: str = ACK_WAL
    expect_position: Position | None = None


class Part(Struct, frozen=True, array_like=True, gc=False):
    """What one `Multi` appends to one stream: the next `length` bytes of its data."""

    stream: str
    length: Length
    expect_position: Position | None = None


Parts: TypeAlias = Annotated[list[Part], Meta(min_length=1, max_length=MAX_MULTI_STREAMS)]


class Multi(Struct, frozen=True, array_like=True, tag="multi", gc=False):
    """One append to several streams: all parts become durable together, or none is taken."""

    id: Id
    parts: Parts
    data: memoryview
    ack: str = ACK_WAL


class Resume(Struct, frozen=True, array_like=True, tag="resume", gc=False):
    """The client knows that its append `id` was refused: what comes next is meant."""

    id: Id


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
    max_multi_streams: int = 0
    features: tuple[str, ...] = ()


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
    """Something was refused; `id` is the append's id or the request's number.

    `positions` tells where streams are that are not where the client expects them. It is not
    sent when there is nothing to tell.
    """

    code: str
    message: str
    id: int | None = None
    positions: dict[str, int] | None = None


class Flushed(Struct, frozen=True, array_like=True, tag="flushed"):
    """The answer to `Flush`."""

    request: int


class StatusAnswer(Struct, frozen=True, array_like=True, tag="status"):
    """The answer to `Status`."""

    request: int
    status: dict[str, Any]


ClientMessage: TypeAlias = Hello | Append | Batch | Multi | Resume | Flush | Status
AgentMessage: TypeAlias = Welcome | Ack | Stored | Error | Flushed | StatusAnswer
