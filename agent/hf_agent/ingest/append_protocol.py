"""Protocol `append` without I/O: bytes in, messages out, and the other way round.

A frame is the length of its body (u32, big-endian) and the body, one msgpack array. The length
comes first so that a receiver finds the end of a frame without parsing it, and refuses an
oversized one before it has arrived. Nothing here knows what order messages must have.
"""

from __future__ import annotations

import struct
from typing import Final, Generic, TypeVar

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import (
    AgentMessage,
    ClientMessage,
    Error,
    Hello,
    HelloOptions,
    Part,
)
from hf_agent.ingest.receive_buffer import ReceiveBuffer

__all__ = [
    "FRAME_SLACK",
    "MAX_AGENT_FRAME_BYTES",
    "FrameDecoder",
    "append_frame",
    "batch_frame",
    "decode_agent",
    "decode_client",
    "decode_hello_options",
    "encode",
    "multi_frame",
]

FRAME_SLACK = 64 << 10
"""What a frame may have beyond `max_record_bytes`: tag, id, stream name, lengths."""

MAX_AGENT_FRAME_BYTES = 64 << 20
"""Largest frame a client takes from an agent; a status or the positions of many streams."""

_LENGTH: Final = struct.Struct(">I")
_BIN32: Final = struct.Struct(">BI")
_FIXARRAY: Final = 0x90

Message = TypeVar("Message")

_encoder: Final = Encoder()
_hello_options: Final = Decoder(HelloOptions)


class FrameDecoder(Generic[Message]):
    """Takes messages out of a `ReceiveBuffer`, into which somebody else receives.

    `next` and `consume` are two steps so that a message which cannot be taken yet stays where it
    is. The memory it holds is the buffer's, which asks for no more than the frame under way needs.
    """

    def __init__(
        self, decoder: Decoder[Message], max_frame_bytes: int, buffer: ReceiveBuffer
    ) -> None:
        self._decoder = decoder
        self._max_frame_bytes = max_frame_bytes
        self.buffer = buffer
        self._frame = 0

    def next(self) -> Message | None:
        """The first message in the buffer that was not consumed; None when it is not whole.

        Its `memoryview` fields point into the buffer. Raises `ProtocolError` (`malformed`,
        `frame_too_large`); the stream of bytes makes no sense after that.
        """
        buffer = self.buffer
        start = buffer.start
        available = buffer.end - start
        if available < 4:
            buffer.wanted = 4
            return None
        (length,) = _LENGTH.unpack_from(buffer.data, start)
        if length > self._max_frame_bytes:
            raise ProtocolError(
                ErrorCode.FRAME_TOO_LARGE,
                f"frame is over the limit bytes={length} limit={self._max_frame_bytes}",
            )
        frame = 4 + length
        if available < frame:
            buffer.wanted = frame
            return None
        self._frame = frame
        try:
            return self._decoder.decode(buffer.view[start + 4 : start + frame])
        except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(
                ErrorCode.MALFORMED, f"message cannot be decoded: {_one_line(error)}"
            ) from error

    def consume(self) -> None:
        """Go on behind the message that `next` gave."""
        self.buffer.consume(self._frame)
        self._frame = 0


def decode_client(max_frame_bytes: int, buffer: ReceiveBuffer) -> FrameDecoder[ClientMessage]:
    """A decoder of what clients send."""
    return FrameDecoder(_client_decoder, max_frame_bytes, buffer)


def decode_agent(buffer: ReceiveBuffer) -> FrameDecoder[AgentMessage]:
    """A decoder of what agents send."""
    return FrameDecoder(_agent_decoder, MAX_AGENT_FRAME_BYTES, buffer)


_client_decoder: Final[Decoder[ClientMessage]] = Decoder(ClientMessage)
_agent_decoder: Final[Decoder[AgentMessage]] = Decoder(AgentMessage)


def decode_hello_options(hello: Hello) -> HelloOptions:
    """The options of a `hello` whose version is known. Raises `ProtocolError` (`malformed`)."""
    try:
        return _hello_options.decode(hello.options)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            ErrorCode.MALFORMED, f"options of hello cannot be decoded: {_one_line(error)}"
        ) from error


def encode(message: ClientMessage | AgentMessage) -> bytes:
    """One message as a frame."""
    if type(message) is Error and message.positions is None:
        body = _encoder.encode(("error", message.code, message.message, message.id))
    else:
        body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def append_frame(
    id: int, stream: str, nbytes: int, ack: str, expect_position: int | None = None
) -> tuple[bytes, bytes]:
    """What goes before and behind the `nbytes` of payload of one `append`.

    So a payload need not be copied into a frame to be sent.
    """
    head = b"\xa6append" + _encoder.encode(id) + _encoder.encode(stream)
    return _framed(4, head, nbytes, ack, expect_position)


def batch_frame(
    first_id: int,
    stream: str,
    lengths: list[int],
    nbytes: int,
    ack: str,
    expect_position: int | None = None,
) -> tuple[bytes, bytes]:
    """What goes before and behind the `nbytes` of payload of one `batch`."""
    head = b"\xa5batch" + b"".join(
        (_encoder.encode(first_id), _encoder.encode(stream), _encoder.encode(lengths))
    )
    return _framed(5, head, nbytes, ack, expect_position)


def multi_frame(id: int, parts: list[Part], nbytes: int, ack: str) -> tuple[bytes, bytes]:
    """What goes before and behind the `nbytes` of payload of one `multi`."""
    head = b"\xa5multi" + _encoder.encode(id) + _encoder.encode(parts)
    return _framed(4, head, nbytes, ack, None)


def _framed(
    fields: int, head: bytes, nbytes: int, ack: str, expect_position: int | None
) -> tuple[bytes, bytes]:
    """A frame of `fields` array elements up to the payload, with what follows that."""
    tail = _encoder.encode(ack)
    count = fields + 1
    if expect_position is not None:
        # Left out where it says nothing, so that an agent which does not know it is not told.
        tail += _encoder.encode(expect_position)
        count += 1
    head = bytes((_FIXARRAY + count,)) + head + _BIN32.pack(0xC6, nbytes)
    return _LENGTH.pack(len(head) + nbytes + len(tail)) + head, tail


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
