"""A client of protocol `lines` for tests that share a loop with the agent."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

TIMEOUT = 20.0


class LinesClient:
    """What a shipper does: writes, shuts down its side, reads until the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> LinesClient:
        return cls(*await asyncio.open_unix_connection(str(path)))

    async def send_in_pieces(self, text: bytes, rng: random.Random) -> None:
        """All of `text` in pieces of any size, and the end."""
        place = 0
        while place < len(text):
            size = rng.choice((1, 100, 70_000, 300_000))
            self.writer.write(text[place : place + size])
            await self.writer.drain()
            place += size
        self.writer.write_eof()

    async def answer(self) -> bytes:
        """What the agent says until it closes; ends in `RESET` when that is no end of file."""
        said = b""
        async with asyncio.timeout(TIMEOUT):
            try:
                while chunk := await self.reader.read(1000):
                    said += chunk
            except ConnectionError:
                said += b"RESET"
        return said

    def close(self) -> None:
        self.writer.close()
