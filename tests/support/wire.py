"""A client of protocol `append` that shares no code with the package: msgpack and a length."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import msgpack

TIMEOUT = 20.0


def frame(*message: Any) -> bytes:
    """One message as it goes over the wire."""
    body: bytes = msgpack.packb(list(message), use_bin_type=True)
    return struct.pack(">I", len(body)) + body


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path, producer: str | None = None, *, hello: bool = True) -> Wire:
        """Connect, and greet unless told not to."""
        wire = cls(*await asyncio.open_unix_connection(str(path), limit=64 << 20))
        if hello:
            wire.send("hello", 1, {} if producer is None else {"producer": producer})
            answer = await wire.receive()
            assert answer[0] == "hello", answer
        return wire

    def send(self, *message: Any) -> None:
        """Send a message."""
        self.writer.write(frame(*message))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def receive(self) -> list[Any]:
        """The next message."""
        async with asyncio.timeout(TIMEOUT):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            message: list[Any] = msgpack.unpackb(await self.reader.readexactly(length))
            return message

    async def receive_until(self, tag: str, number: int | None = None) -> list[Any]:
        """The next message with that tag (and number), skipping others."""
        while True:
            message = await self.receive()
            if message[0] == tag and number in (None, message[1]):
                return message

    async def rest(self) -> list[list[Any]]:
        """All messages until the agent closes."""
        messages = []
        async with asyncio.timeout(TIMEOUT):
            while header := await self.reader.read(4):
                header += await self.reader.readexactly(4 - len(header))
                (length,) = struct.unpack(">I", header)
                messages.append(msgpack.unpackb(await self.reader.readexactly(length)))
        return messages

    def end_writing(self) -> None:
        """Shut down our side."""
        self.writer.write_eof()

    async def close(self) -> None:
        """Close both sides."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionResetError, BrokenPipeError):
            pass
