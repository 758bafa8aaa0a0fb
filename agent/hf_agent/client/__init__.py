"""Send appends to an agent: `Client` for threads, `AsyncClient` for asyncio."""

from __future__ import annotations

from hf_agent.client.async_client import AsyncClient
from hf_agent.client.errors import (
    AgentRefused,
    AppendRefused,
    ClientError,
    ConnectionLost,
    Fenced,
    PositionMismatch,
    RequestRefused,
    Superseded,
)
from hf_agent.client.options import ClientOptions, fresh_producer
from hf_agent.client.sync_client import Client

__all__ = [
    "AgentRefused",
    "AppendRefused",
    "AsyncClient",
    "Client",
    "ClientError",
    "ClientOptions",
    "ConnectionLost",
    "Fenced",
    "PositionMismatch",
    "RequestRefused",
    "Superseded",
    "fresh_producer",
]
