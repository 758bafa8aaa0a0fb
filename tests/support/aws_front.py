"""AWS by its real names, without AWS: a proxy that takes every host for one HTTPS stub.

So the hosts, regions and signatures that botocore chooses are those of production. A store needs
`proxy` and `ca_bundle` of the front, and no endpoint.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from support.certificates import write_certificate
from support.http_stub import StubServer, stub_server

__all__ = ["AwsFront", "aws_front"]

_NAMES = [
    "*.amazonaws.com",
    "*.us-east-1.amazonaws.com",
    "*.eu-west-1.amazonaws.com",
    "*.s3.us-east-1.amazonaws.com",
    "*.s3.eu-west-1.amazonaws.com",
    "*.s3express-use1-az4.us-east-1.amazonaws.com",
]


@dataclass
class AwsFront:
    """A running front."""

    stub: StubServer
    """What answers for every host; a request's is in its headers."""
    proxy: str
    ca_bundle: str
    connected: list[str] = field(default_factory=list)
    """`host:port` of each tunnel that was asked for."""

    @property
    def options(self) -> dict[str, str]:
        """Options of a store that reaches AWS through this."""
        return {"proxy": self.proxy, "ca_bundle": self.ca_bundle, "endpoint_url": ""}


@asynccontextmanager
async def aws_front(folder: Path) -> AsyncIterator[AwsFront]:
    """A front, with its certificate in `folder`."""
    certificate = write_certificate(folder / "front.pem", _NAMES)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with stub_server(context) as stub:
        target = urlsplit(stub.url)
        front = AwsFront(stub, "", str(certificate))
        tunnels: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tunnels.add(task)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                front.connected.append(head.split()[1])
                far = await asyncio.open_connection(target.hostname, target.port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pump(reader, far[1]), _pump(far[0], writer))
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # an end went, or the test is over
            finally:
                writer.close()
                tunnels.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        front.proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield front
        finally:
            server.close()
            for task in list(tunnels):
                task.cancel()
            await asyncio.gather(*tunnels, return_exceptions=True)
            await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
