"""A peer of protocol `forward` that shares no code with the package: `msgpack` and a socket."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import msgpack

TIMEOUT = 20.0


def event_time(seconds: int, nanos: int = 0) -> msgpack.ExtType:
    """An `EventTime`."""
    return msgpack.ExtType(0, struct.pack(">II", seconds, nanos))


def pack(value: Any) -> bytes:
    """One value."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def stream_of(*entries: Any) -> bytes:
    """Entries one behind the other, as in PackedForward."""
    return b"".join(map(pack, entries))


def packed(tag: str, *entries: Any, **options: Any) -> bytes:
    """A PackedForward message."""
    return pack([tag, stream_of(*entries), options])


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._unpacker = msgpack.Unpacker()

    @classmethod
    async def connect(cls, path: Path) -> Peer:
        return cls(*await asyncio.open_unix_connection(str(path)))

    def send(self, *values: Any) -> None:
        """Send values, each as msgpack."""
        self.send_bytes(*map(pack, values))

    def send_bytes(self, *data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(data))

    async def receive(self) -> Any:
        """The next value."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                for value in self._unpacker:
                    return value
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self._unpacker.feed(data)

    async def acks(self, count: int) -> list[Any]:
        """The ids of the next acknowledgements."""
        return [(await self.receive())["ack"] for _ in range(count)]

    async def rest(self) -> list[Any]:
        """All values until the agent closes."""
        values = []
        while True:
            try:
                values.append(await self.receive())
            except (EOFError, ConnectionResetError, BrokenPipeError):
                return values

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
